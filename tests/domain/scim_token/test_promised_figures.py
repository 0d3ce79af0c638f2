"""The figures that are promised, in figures: other tests ask for them by name, and hold for any."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from domain import policy, setup_link
from domain.api_token import rotation as api_token_rotation
from domain.api_token import session
from domain.api_token import token as api_token
from domain.leaks import report
from domain.scim_token import leak, rotation, values, warnings
from domain.scim_token import token as scim_token

SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
PROMISED: Final = {
    "a rotation of a SCIM token": (rotation.DEFAULT_OVERLAP, 30 * DAY),
    "any overlap": (rotation.OVERLAP_MAX, 30 * DAY),
    "from one rotation to the next": (rotation.ROTATE_EVERY, 10 * SECOND),
    "good secrets of a token": (rotation.GOOD_SECRETS_MAX, 2),
    "two uses of a newer secret": (rotation.DEFAULT_RULE.used_apart, 45 * MINUTE),
    "the silence of an older secret": (rotation.DEFAULT_RULE.silent_for, 2 * HOUR),
    "from one recorded refusal to the next": (scim_token.REFUSAL_EVERY, MINUTE),
    "a setup link": (setup_link.LIFETIME, 24 * HOUR),
    "places of a leak": (leak.PLACES_MAX, 10),
    "the URL of a place": (leak.URL_MAX_LENGTH, 300),
    "the source of a leak": (leak.SOURCE_MAX_LENGTH, 100),
    "leaks in a report": (report.REPORTS_MAX, 100),
    "a name": (values.NAME_MAX_LENGTH, 255),
    "a reason": (values.REASON_MAX_LENGTH, 200),
    "the last end": (values.EXPIRY_MAX, datetime(9999, 1, 1, tzinfo=UTC)),
    "days before an end": (warnings.EXPIRING_DAYS, (30, 7, 1)),
    "days before a rotation ends": (warnings.ROTATION_ENDING_DAYS, (7, 1)),
    "a silence": (warnings.UNUSED_AFTER, 90 * DAY),
    "an API token": (api_token.DEFAULT_LIFETIME, 90 * DAY),
    "from one recorded use of an API token to the next": (api_token.USE_EVERY, MINUTE),
    "a rotation of an API token": (api_token_rotation.DEFAULT_OVERLAP, DAY),
    "a session": (session.LIFETIME, 8 * HOUR),
    "the longest life that a policy allows": (policy.LIFETIME_MAX_DAYS, 36_500),
    "live tokens that a policy allows": (policy.LIVE_TOKENS_MAX, 1_000_000),
}


@pytest.mark.parametrize("figure", PROMISED)
def test_a_figure_is_the_one_that_is_promised(figure: str) -> None:
    found, promised = PROMISED[figure]
    assert found == promised

"""What the tests of `/scim-token` share."""

from typing import Final

from tests.api.expected import WARNINGS
from tests.service import RunningService

ABSENT: Final = "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"
CONTROL: Final = "must not hold control characters"
NO_UUID: Final = "must be a UUID, such as 05daecaf-4365-42e8-8370-8127de5dd717"
SHOWN: Final = (
    "This request was carried out before; its secret was shown then. Revoke or rotate the token."
)
SECRET_SHAPED: Final = "scim_live_" + "a" * 49


def head(service: RunningService) -> int:
    """How many events of SCIM tokens there are:
    nothing happened to any between two equal answers.
    """
    statement = """
        SELECT count(*) FROM ledger.events
        WHERE starts_with(topic, 'scim_token.') AND topic <> ALL(%s)
    """
    return int(service.query(statement, list(WARNINGS))[0][0])

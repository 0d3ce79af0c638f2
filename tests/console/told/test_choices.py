"""A choice does what its label says: so many days, and nothing besides what was chosen."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from api.console.pages.bulk import UNUSED, _conditions, _fixed
from api.console.pages.tokens import ENDS, STATES, USES, _filter
from domain.api_token.token import ApiToken
from domain.eventstore.lookups.api_tokens import Caller
from domain.scim_token.conditions import TokenConditions
from projections.scim_tokens.filters import TokenFilter

NOW: Final = datetime(2026, 11, 28, 12, 30, 0, 123000, tzinfo=UTC)
WHO: Final = ApiToken(uuid4(), 1, uuid4(), None, (), b"", NOW, None)  # type: ignore[arg-type]
CALLER: Final = Caller(WHO, 0, NOW, b"", ())


def days_in(label: str) -> timedelta:
    found = re.search(r"(\d+) days", label.replace("a year", "365 days"))
    assert found is not None, label
    return timedelta(days=int(found[1]))


@given(
    state=st.sampled_from([*STATES]), use=st.sampled_from([*USES]), ends=st.sampled_from([*ENDS])
)
def test_of_the_list(state: str, use: str, ends: str) -> None:
    chosen = {"state": state, "use": use, "ends": ends}
    asked = {field: value for field, value in chosen.items() if value}
    as_told, use_told, ends_told = STATES[state], USES[use], ENDS[ends]
    assert _filter(asked, CALLER) == TokenFilter(
        status={"any": "all", "rotating": "active"}.get(as_told, as_told),
        is_rotating=as_told == "rotating",
        unused_since=NOW - days_in(use_told) if use_told.startswith("not used") else None,
        is_never_used=use_told == "never used",
        new_source_since=NOW - days_in(use_told) if "new address" in use_told else None,
        expires_before=NOW + days_in(ends_told) if ends else None,
    )


@given(unused=st.sampled_from([*UNUSED]))
def test_of_a_revocation_of_many(unused: str) -> None:
    """Nothing that was made since the look is among them, whatever is chosen."""
    meant = TokenConditions(unused_since=NOW - days_in(UNUSED[unused]), created_before=NOW)
    assert _conditions(_fixed({"unused": unused}, NOW)) == meant

"""What a page tells of a token at a glance, whatever the token: how it stands, and when it ends."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from api.console.instants import relative
from api.console.token_rows import Ending, TokenGlance, glance
from projections.described import rfc3339
from projections.scim_tokens.known_secrets import Rotation
from projections.scim_tokens.view import TokenDocument

NOW: Final = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
THEN: Final = rfc3339(NOW - timedelta(days=400))
ROTATION: Final = Rotation(THEN, THEN, None, None)
MILLISECOND: Final = timedelta(milliseconds=1)
URGENCY: Final = {timedelta(0): "over", timedelta(days=7): "urgent", timedelta(days=30): "soon"}
"""Of a token that ends within so long, the shortest that it does."""
AWAY: Final = st.sampled_from(list(URGENCY)).flatmap(
    lambda edge: st.integers(-1, 1).map(lambda beside: edge + beside * MILLISECOND)
) | st.timedeltas(-timedelta(days=90), timedelta(days=90)).map(
    lambda away: away // MILLISECOND * MILLISECOND
)


def token_that(away: timedelta | None, **more: object) -> TokenDocument:
    """One that ends so far from now, or never."""
    ends = None if away is None else rfc3339(NOW + away)
    ids = uuid4(), uuid4(), "Okta", uuid4()
    return TokenDocument(*ids, THEN, THEN, THEN, ends, **more)  # type: ignore[arg-type]


@given(
    away=st.none() | AWAY,
    is_revoked=st.booleans(),
    is_suspended=st.booleans(),
    rotates=st.sampled_from(["not", "by its document", "by the page"]),
)
def test_it_stands_as_the_first_that_is_true(
    away: timedelta | None, is_revoked: bool, is_suspended: bool, rotates: str
) -> None:
    token = token_that(
        away,
        revoked_at=THEN if is_revoked else None,
        suspended_at=THEN if is_suspended else None,
        rotation=ROTATION if rotates == "by its document" else None,
    )
    others: set[UUID] = {uuid4()}
    seen = glance(token, NOW, rotating=others | ({token.id} if rotates == "by the page" else set()))
    truths = {
        "revoked": is_revoked,
        "expired": away is not None and away <= timedelta(0),
        "suspended": is_suspended,
        "rotating": rotates != "not",
        "active": True,
    }
    assert seen == TokenGlance(token, next(s for s, is_so in truths.items() if is_so), seen.ending)


@given(away=AWAY, is_revoked=st.booleans())
def test_its_end_is_told_the_more_urgently_the_nearer_it_is(
    away: timedelta, is_revoked: bool
) -> None:
    """Of one that is revoked, nobody has to do anything about that."""
    token = token_that(away, revoked_at=THEN if is_revoked else None)
    urgency = next((told for within, told in URGENCY.items() if away <= within), None)
    told = relative(NOW + away, NOW)
    if is_revoked:
        urgency = None
    elif urgency == "over":
        told = f"ended {told}"
    assert token.expires_at is not None
    assert glance(token, NOW).ending == Ending(token.expires_at, told, urgency)


def test_of_one_without_an_end_none_is_told() -> None:
    assert glance(token_that(None), NOW).ending is None

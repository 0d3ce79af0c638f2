"""Which keys of the pepper are needed: the functions say of any states what the tokens do."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken, OlderSecret
from domain.eventstore.aggregates import encode_state, name_of
from domain.scim_token.held_secret import HeldSecret
from domain.scim_token.token import ScimToken
from domain.secret import Digest
from domain.setup_link import SetupLink
from tests.conftest import new_database
from tests.domain.scenario import ADA, LINK, MILLISECOND, T0, TEAM_ID

INSTANTS: Final = st.sampled_from([T0 + number * MILLISECOND for number in range(4)])
"""Few, so that what ends and what is asked about fall together."""
ENDS: Final = st.none() | INSTANTS
SELDOM: Final = st.sampled_from([None] * 5 + [T0])
DIGESTS: Final = st.builds(
    Digest, st.integers(0, 255).map(lambda number: bytes([number]) * 32), st.integers(1, 3)
)
LINKS: Final = st.builds(
    SetupLink, st.just(LINK), INSTANTS, SELDOM, key_generation=st.integers(1, 3)
)
SCIM_TOKENS: Final = st.builds(
    ScimToken,
    id=st.uuids(),
    version=st.just(1),
    team_id=st.just(TEAM_ID),
    name=st.just("Okta"),
    created_by=st.just(ADA),
    created_at=st.just(T0),
    updated_at=st.just(T0),
    secrets=st.lists(st.builds(HeldSecret, DIGESTS, ENDS), min_size=1, max_size=3).map(tuple),
    expires_at=ENDS,
    revoked_at=SELDOM,
    suspended_at=SELDOM,
    setup_link=LINKS | st.none(),
)
API_TOKENS: Final = st.builds(
    ApiToken,
    id=st.uuids(),
    version=st.just(1),
    user_id=st.uuids(),
    teams=st.none(),
    permissions=st.just(tuple(Permission)),
    digest=DIGESTS,
    created_at=st.just(T0),
    expires_at=ENDS,
    revoked_at=SELDOM,
    older=st.lists(st.builds(OlderSecret, DIGESTS, INSTANTS), max_size=2).map(tuple),
).filter(
    lambda token: all(
        token.expires_at is None or old.good_until <= token.expires_at for old in token.older
    )
)
"""No older secret is good for longer than its token: so the fold has it."""


def in_force(token: ScimToken | ApiToken, after: datetime) -> Iterator[tuple[UUID, str, int]]:
    """The digests that may let somebody in after an instant, now or once the token is resumed."""
    if isinstance(token, ScimToken):
        held = [each.digest for each in token.secrets]
        rows = msgspec.structs.replace(token, suspended_at=None).secret_rows()
    else:
        held = [*(older.digest for older in token.older), token.digest]
        rows = token.secret_rows()
    for digest, row in zip(held, rows, strict=True):
        assert digest.value == row.digest
        if not row.is_void and (row.good_until is None or row.good_until > after):
            yield token.id, name_of(token), digest.key_generation
    if isinstance(token, ScimToken) and (link := token.setup_link) is not None:
        ends = [link.ends_at, *([] if token.expires_at is None else [token.expires_at])]
        if token.revoked_at is None and link.revealed_at is None and min(ends) > after:
            yield token.id, "setup_link", link.key_generation


def generations(token: ScimToken | ApiToken) -> Iterator[int]:
    """Of all digests that it holds, in force or not."""
    if isinstance(token, ScimToken):
        yield from (each.digest.key_generation for each in token.secrets)
        yield from [] if token.setup_link is None else [token.setup_link.key_generation]
    else:
        yield from (each.digest.key_generation for each in token.older)
        yield token.digest.key_generation


def stored(token: ScimToken | ApiToken) -> bytes:
    """Its state; that of a link of the first key as before there was another."""
    state = msgspec.json.decode(encode_state(token))
    link = state.get("setup_link")
    if link is not None and link["key_generation"] == 1:
        del link["key_generation"]
    return msgspec.json.encode(state)


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


@settings(max_examples=60)
@given(tokens=st.lists(SCIM_TOKENS | API_TOKENS, max_size=4), after=INSTANTS)
def test_a_digest_is_in_force_where_its_token_says_so(
    owner: psycopg.Connection[Any], tokens: list[ScimToken | ApiToken], after: datetime
) -> None:
    owner.execute(
        "INSERT INTO ledger.aggregates SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bytea[])",
        [
            [token.id for token in tokens],
            [name_of(token) for token in tokens],
            [stored(token) for token in tokens],
        ],
    )
    found = owner.execute("SELECT * FROM ledger.digests_in_force(%s)", [after]).fetchall()
    newest = owner.execute("SELECT ledger.newest_pepper_generation()").fetchone()
    owner.rollback()
    assert Counter(found) == Counter(each for token in tokens for each in in_force(token, after))
    assert newest == (max((each for token in tokens for each in generations(token)), default=0),)

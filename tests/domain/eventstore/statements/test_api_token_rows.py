"""What is listed of an API token follows its state, whatever that was before."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.eventstore.aggregates import encode_state, name_of
from tests.domain.eventstore.statements.test_digests_in_force import (
    API_TOKENS,
    ENDS,
    owner,
)

__all__ = ["owner"]

TEAMS: Final = st.none() | st.lists(st.integers(1, 4).map(lambda n: UUID(int=n)), min_size=1)
PERMISSIONS: Final = st.sets(st.sampled_from([*Permission]), min_size=1).map(tuple)
ROW: Final = """
    SELECT created_at, CASE WHEN isfinite(good_until) THEN good_until END,
        good_until = '-infinity', teams, manages, is_session, session_of
    FROM ledger.api_tokens WHERE originator_id = %s
"""


@settings(max_examples=120)
@given(
    token=API_TOKENS,
    teams=TEAMS,
    permissions=PERMISSIONS,
    session_of=st.none() | st.uuids(),
    changes=st.lists(st.tuples(ENDS, ENDS, ENDS), max_size=3),
)
def test_a_row_says_what_the_state_does(
    owner: psycopg.Connection[Any],
    *,
    token: ApiToken,
    teams: list[UUID] | None,
    permissions: tuple[Permission, ...],
    session_of: UUID | None,
    changes: list[tuple[datetime | None, ...]],
) -> None:
    token = msgspec.structs.replace(
        token,
        teams=None if teams is None else tuple(teams),
        permissions=permissions,
        session_of=session_of,
    )
    first = (token.created_at, token.expires_at, token.revoked_at)
    for created_at, expires_at, revoked_at in [first, *changes]:
        token = msgspec.structs.replace(
            token,
            created_at=created_at or token.created_at,
            expires_at=expires_at,
            revoked_at=revoked_at,
        )
        owner.execute(
            "INSERT INTO ledger.aggregates VALUES (%s, %s, %s)"
            " ON CONFLICT (originator_id) DO UPDATE SET state = excluded.state",
            [token.id, name_of(token), encode_state(token)],
        )
    row = owner.execute(ROW, [token.id]).fetchone()
    owner.rollback()
    is_void = token.revoked_at is not None
    assert row == (
        token.created_at,
        None if is_void else token.expires_at,
        is_void,
        None if teams is None else sorted(set(teams)),
        Permission.API_TOKENS_MANAGE in permissions and session_of is None,
        session_of is not None,
        session_of,
    )

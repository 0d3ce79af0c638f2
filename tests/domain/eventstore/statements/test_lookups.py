"""Whose a secret, a session or a setup link is: the look-ups say of any rows what the rows do."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import msgspec
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.token import ApiToken
from domain.eventstore.aggregates import encode_state, name_of
from domain.eventstore.lookups import api_tokens, setup_links
from domain.leaks import holders
from domain.scim_token.token import ScimToken
from tests.conftest import now
from tests.domain.eventstore.hand_clock import BELIEVES
from tests.domain.eventstore.statements.test_digests_in_force import (
    API_TOKENS,
    SCIM_TOKENS,
    owner,
)
from tests.domain.scenario import T0

__all__ = ["owner"]

NOBODYS: Final = UUID(int=1)
ABSENT: Final = bytes(31) + b"\xff"
AHEAD: Final = timedelta(days=1)


class Kept(NamedTuple):
    """A token and how its rows stand. opener: the place of the token that its session is of, or of
    none. version, uses: of its head.
    """

    token: ScimToken | ApiToken
    opener: int
    version: int
    uses: int

    @property
    def head(self) -> tuple[int, datetime | None, int]:
        return self.version, T0 if self.uses else None, self.uses


KEPT: Final = st.builds(
    Kept, SCIM_TOKENS | API_TOKENS, st.integers(0, 5), st.integers(1, 200), st.integers(0, 3)
)


def with_sessions(kept: Sequence[Kept]) -> list[Kept]:
    """Each API token as a session of what stands at its `opener`, if something does."""
    ids = [each.token.id for each in kept]
    return [
        each._replace(token=msgspec.structs.replace(each.token, session_of=ids[each.opener]))
        if isinstance(each.token, ApiToken) and each.opener < len(ids)
        else each
        for each in kept
    ]


def digests_of(token: ScimToken | ApiToken) -> list[bytes]:
    return [row.digest for row in token.secret_rows()]


def put(
    owner: psycopg.Connection[Any], kept: Sequence[Kept], *, events: int, at: datetime
) -> dict[bytes, Kept]:
    """Write them, and as many events, the last of them at `at`; who has which digest."""
    held: dict[bytes, Kept] = {}
    for each in kept:
        token = each.token
        owner.execute(
            "INSERT INTO ledger.aggregates VALUES (%s, %s, %s)",
            [token.id, name_of(token), encode_state(token)],
        )
        owner.execute(
            "INSERT INTO ledger.stream_heads (originator_id, version, last_used_at, uses, chapter)"
            " VALUES (%s, %s, %s, %s, %s)",
            [token.id, *each.head, each.version >> 6],
        )
        for digest in digests_of(token):
            if held.setdefault(digest, each) is each:
                owner.execute(
                    "INSERT INTO ledger.secrets VALUES (%s, %s, NULL, 'infinity')"
                    " ON CONFLICT DO NOTHING",
                    [digest, token.id],
                )
    for position in range(1, events + 1):
        owner.execute(
            "INSERT INTO ledger.events VALUES (%s, %s, 1, 'of.a.test', %s, %s, '')",
            [position * 10, uuid4(), at if position == events else T0, uuid4()],
        )
    return held


@settings(max_examples=80)
@given(
    kept=st.lists(KEPT, max_size=5, unique_by=lambda each: each.token.id).map(with_sessions),
    strays=st.lists(SCIM_TOKENS | API_TOKENS, max_size=1),
    left_out=st.sets(st.integers(0, 8)),
    events=st.integers(0, 2),
    is_ahead=st.booleans(),
)
def test_a_look_up_finds_what_is_asked_for_and_how_the_ledger_stands(
    owner: psycopg.Connection[Any],
    *,
    kept: list[Kept],
    strays: list[ScimToken | ApiToken],
    left_out: set[int],
    events: int,
    is_ahead: bool,
) -> None:
    clock = now()
    newest = clock + AHEAD if is_ahead else T0
    owner.execute(BELIEVES)
    held = put(owner, kept, events=events, at=newest)
    asked = [digest for place, digest in enumerate(held) if place not in left_out] + [ABSENT]
    asked += [each for stray in strays for each in digests_of(stray)]
    ids = [*(each.token.id for each in kept), *(stray.id for stray in strays), NOBODYS]
    found = owner.execute(api_tokens._SQL["find"], [clock, asked]).fetchall()
    held_by = owner.execute(holders._SQL["holders"], [asked]).fetchall()
    links = [
        row
        for each in ids
        for row in owner.execute(setup_links._SQL["find"], [clock, each]).fetchall()
    ]
    owner.rollback()

    by_id = {each.token.id: each for each in kept}
    ledger_at = max(clock, newest) if events else clock
    of_asked = {digest: held[digest] for digest in asked if digest in held}
    assert sorted(held_by) == sorted((digest, each.token.id) for digest, each in of_asked.items())

    def opener(token: ApiToken) -> bytes | None:
        first = None if token.session_of is None else by_id[token.session_of]
        return None if first is None else encode_state(first.token)

    assert sorted(found) == sorted(
        (
            *(digest, encode_state(each.token), *each.head),
            *(opener(each.token), events * 10 or None, ledger_at),
        )
        for digest, each in of_asked.items()
        if isinstance(each.token, ApiToken)
    )
    scim_tokens = {id_: each for id_, each in by_id.items() if isinstance(each.token, ScimToken)}
    assert links == [
        (
            *(
                ("scim_token", encode_state(scim_tokens[each].token), *scim_tokens[each].head)
                if each in scim_tokens
                else (None,) * 5
            ),
            events * 10,
            ledger_at,
        )
        for each in ids
    ]

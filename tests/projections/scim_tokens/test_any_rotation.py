"""Whatever was decided of tokens and whoever used them: what is told of each rotation, by which it
is finished and counted, is what its token's own events say.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Refused, Rotated, Used
from domain.scim_token.held_secret import HeldSecret
from domain.scim_token.token import ScimToken
from domain.secret import secret_id
from projections.figures.queries import FigureQueries, RotationFigures
from projections.scim_tokens.rotations import RotationQueries, Underway
from tests.conftest import Database, new_database
from tests.domain.scenario import MILLISECOND, MINUTE, T0
from tests.projections.history import Fact, given
from tests.projections.test_any_life import DAY, DECISIONS, HOUR, Step, lives, states

SILENCES: Final = (timedelta(0), MILLISECOND, 20 * MINUTE, HOUR, 2 * HOUR)
LATER: Final = st.sampled_from([timedelta(0), MINUTE, 20 * MINUTE, HOUR])
BEFORE: Final = st.lists(
    st.builds(
        Step, st.integers(0, 2), st.sampled_from(sorted(DECISIONS)), LATER, st.integers(0, 2)
    ),
    max_size=20,
)
BEGINS: Final = [
    Step(token, kind, MINUTE, 2) for kind in ("complete", "rotate") for token in range(3)
]
AMONG_THEM: Final = ["refuse", "name", "suspend", "resume", "cancel", "complete"]
SINCE: Final = st.lists(
    st.builds(
        Step,
        st.integers(0, 2),
        st.sampled_from(
            ["use"] * 8 + ["refuse", "name", "suspend", "resume", "cancel", "complete"]
        ),
        LATER,
        st.sampled_from([-1, -1, -2]),  # of its secrets: the newer and the older one
    ),
    min_size=5,
    max_size=25,
)
STEPS: Final = st.builds(lambda before, since: [*before, *BEGINS, *since], BEFORE, SINCE)
"""Any lives, then a rotation of each token that can have one, and how it goes."""
Known: TypeAlias = datetime | None
EVER: Final = T0 + 9999 * DAY


def presented(history: Sequence[Fact]) -> list[Fact]:
    """The same; and each time all other secrets of the token are refused."""
    found, known = list[Fact](), dict[UUID, set[str]]()
    how = Presentation(door="scim", source="192.0.2.9")
    for id_, event, at in history:
        used = event.secret if isinstance(event, Used) else None
        others = known.setdefault(id_, set())
        refused = [None, *sorted(others - {used})] if others else []
        found += [(id_, Refused("expired", how, each), at) for each in refused]
        found.append((id_, event, at))
        if isinstance(event, Created | Rotated):
            others.add(secret_id(event.digest.value))
    return found


def rotations(history: Sequence[Fact], silent_for: timedelta | None) -> list[Underway]:
    """Those of which no end is on record, newest token first."""
    found = list[Underway]()
    for token in states(history, history[-1][2]):
        older = token.outgoing
        if older is None or older.overlap_until is None or token.revoked_at is not None:
            continue
        rotation = Underway(
            token.id,
            token.created_at,
            token.updated_at,
            token.suspended_at is not None,
            token.rotated_at or EVER,
            min(older.overlap_until, token.expires_at or EVER),
            token.secrets[-1].id,
            *_uses(history, token, older, silent_for),
            None,
        )
        found.append(rotation)
    return found


def _uses(
    history: Sequence[Fact], token: ScimToken, older: HeldSecret, silent_for: timedelta | None
) -> tuple[Known, Known, Known, Known, Known]:
    """The newer secret's first and last use, the older one's last, the end of the last hour in
    which that one was refused, and the newer one's first in an hour that began after a silence.
    """
    uses = [
        (each.secret, at) for id_, each, at in history if id_ == token.id and isinstance(each, Used)
    ]
    newer = [at for secret, at in uses if secret == token.secrets[-1].id]
    last = max((at for secret, at in uses if secret in {older.id, None}), default=None)
    since = _hour(max(token.rotated_at or EVER, last or T0))
    refused_until = max(
        (
            _hour(at) + HOUR
            for id_, each, at in history
            if id_ == token.id and isinstance(each, Refused) and each.secret == older.id
            if at >= since
        ),
        default=None,
    )
    again = list[datetime]()
    if silent_for is not None:
        silent_at = max(token.updated_at, last or T0, refused_until or T0) + silent_for
        again = [at for at in newer if _hour(at) >= silent_at]
    return (
        min(newer, default=None),
        max(newer, default=None),
        last,
        refused_until,
        min(again, default=None),
    )


def _hour(at: datetime) -> datetime:
    """When the hour of an instant began."""
    return at.replace(minute=0, second=0, microsecond=0)


def _on_their_way(rotations: Sequence[Underway], at: datetime) -> RotationFigures:
    lasting = [each for each in rotations if each.ends_at > at]
    in_use = [
        each
        for each in lasting
        if each.ends_at <= at + DAY and each.older_last_at and each.older_last_at > at - HOUR
    ]
    return RotationFigures(len(lasting), len(in_use))


def _turns(rotations: Sequence[Underway], last: datetime) -> list[datetime]:
    """Instants at which something else is told of one of them, and those before."""
    found = {last}
    for each in rotations:
        found |= {each.ends_at, each.ends_at - DAY, (each.older_last_at or last) + HOUR}
    return sorted(found | {at - MILLISECOND for at in found})


async def check(database: Database, history: Sequence[Fact]) -> None:
    pool = ReadPool(database.app, timeout_s=10)
    queries = RotationQueries(pool)
    try:
        for silent_for in (None, *SILENCES):
            expected = rotations(history, silent_for)
            begin, found = (EVER, UUID(int=0)), list[Underway]()
            while page := await queries.slice(
                *begin, limit=1, ledger_head=0, silent_for=silent_for
            ):
                (last,) = page
                begin, found = (last.created_at, last.token_id), [*found, last]
            assert found == expected, silent_for
        expected = rotations(history, None)
        ids = [token.id for token in states(history, history[-1][2])]
        documents = [f'{{"id":"{id_}"}}' for id_ in ids]
        for at in _turns(expected, history[-1][2]):
            told = await queries.told(documents, ids, at=at, ledger_head=0)
            telling = [UUID(each[7:43]) for each in told if '"rotation"' in each]
            assert telling == [each.token_id for each in expected if each.ends_at > at], at
            alone = await queries.told(documents, ids[:1], at=at, ledger_head=0)
            assert alone == [*told[:1], *documents[1:]], at
            figures = await FigureQueries(pool).figures(at)
            assert figures.rotations == _on_their_way(expected, at), at
    finally:
        await pool.close()


def check_lives(server: str, steps: Sequence[Step]) -> None:
    history = presented(lives(steps))
    with new_database(server) as database:
        given(database, *history)
        asyncio.run(check(database, history))


AT_THE_HOUR: Final = [
    Step(2, "use", MINUTE, 2),  # without the id of its secret
    Step(0, "name", 57 * MINUTE, 1),
    Step(0, "rotate", timedelta(0), 2),
    Step(2, "rotate", timedelta(0), 2),
    Step(0, "name", timedelta(0), 2),
    Step(0, "use", timedelta(0), 1),  # from nowhere that is known, and nobody else in that hour
    Step(0, "use", HOUR, 1),
    Step(0, "use", MINUTE, 1),
]


@settings(max_examples=10)
@example(AT_THE_HOUR)
@example([Step(0, "rotate", timedelta(0), 2), *[Step(0, "use", MINUTE, 0)] * 2])
@given_any(steps=STEPS)
def test_a_rotation_is_told_as_it_went(server: str, steps: list[Step]) -> None:
    check_lives(server, steps)


@pytest.mark.long
@settings(max_examples=60)
@given_any(steps=STEPS)
def test_a_rotation_is_told_as_it_went_in_many_lives(server: str, steps: list[Step]) -> None:
    check_lives(server, steps)

"""After a repair of ledger time, every token is as it would be had the clock been right.

Each plan is lived twice: in a ledger whose clock jumps ahead while warnings are told, and is set
right by a repair; and in another, whose clock never did. From then on both tell the same.
"""

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.commands import NewScimToken
from domain.errors import Refusal
from domain.event import Event
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.repair import repair_ledger_time
from domain.scim_token.events import RotationFinished
from domain.scim_token.warnings import OldSecretStillUsed, RotationEnding
from domain.secret import Secret
from projections.described import rfc3339
from projections.ledger_check import check_ledger
from projections.rebuild.run import rebuild
from projections.registry import PROJECTIONS
from projections.warnings.teller import Teller
from tests.conftest import PEPPER, Database, Run, catch_up, new_database, now, open_ledger
from tests.domain.eventstore.consistency import assert_consistent, wait_until_left
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import TEAM_ID
from tests.projections.given_events import select
from tests.projections.warnings.weeks import ADA, DAY, HOUR, TOPICS, Weeks

JUMPS: Final = (6 * HOUR, 20 * HOUR, 2 * DAY, 10 * DAY, 40 * DAY, 100 * DAY)


class Plan(NamedTuple):
    """The life of a token around the jump.

    age: how long before the jump it was made. ends_in: how long after it, None for no end.
    overlap: of a rotation two days before it, None for none. uses: with which secrets it is used
    hours before it. meanwhile: what is done with it while the clock is wrong.
    """

    age: timedelta
    ends_in: timedelta | None = None
    overlap: timedelta | None = None
    uses: str = ""
    meanwhile: str = "nothing"


class Token(NamedTuple):
    """A token of a plan; its secrets, oldest first."""

    id: UUID
    secrets: list[Secret]


class Told(NamedTuple):
    """Something that was told. what: of which plan, and what.

    is_meanwhile: while the clock was wrong, by the repair of it.
    """

    what: tuple[int, str]
    at: datetime
    is_meanwhile: bool


class Lived(NamedTuple):
    """What a ledger tells. done: the plans whose `meanwhile` was let happen.

    good: of each plan, which secrets are good after the jump. told: every warning, and every finish
    of a rotation.
    """

    done: frozenset[int]
    good: list[list[bool]]
    told: list[Told]


@pytest.mark.long
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    jump=st.sampled_from(JUMPS),
    plans=st.lists(
        st.builds(
            Plan,
            age=st.sampled_from([3 * DAY, 65 * DAY]),
            ends_in=st.sampled_from([None, 10 * HOUR, 30 * HOUR, 8 * DAY, 35 * DAY]),
            overlap=st.sampled_from([None, 3 * DAY, 8 * DAY, 30 * DAY]),
            uses=st.sampled_from(["", "older", "newer", "both"]),
            meanwhile=st.sampled_from(["nothing", "use older", "use newer", "rotate"]),
        ),
        min_size=4,
        max_size=8,
    ),
)
@example(
    jump=40 * DAY,
    plans=[
        Plan(3 * DAY, ends_in=35 * DAY),
        Plan(3 * DAY, overlap=30 * DAY, uses="older", meanwhile="use older"),
        Plan(3 * DAY, overlap=30 * DAY, uses="both", meanwhile="use newer"),
        Plan(65 * DAY),
        Plan(3 * DAY, meanwhile="rotate"),
    ],
)
@example(jump=20 * HOUR, plans=[Plan(3 * DAY, ends_in=36 * HOUR)])
def test_what_was_told_too_early_is_told_in_time(
    server: str, jump: timedelta, plans: list[Plan]
) -> None:
    at = now() - HOUR
    with new_database(server) as database, new_database(server) as another:
        wrong = asyncio.run(_live(database, plans, at, jump=jump, let=frozenset(range(len(plans)))))
        right = asyncio.run(_live(another, plans, at, jump=timedelta(0), let=wrong.done))
        _assert_sound(database)
    assert wrong.good == right.good
    in_time = {told.what: told.at for told in right.told}
    counted = [told for told in wrong.told if not told.is_meanwhile]
    for told in counted:
        assert abs(told.at - in_time[told.what]) <= 2 * HOUR, told
    left = Counter(told.what for told in right.told) - Counter(told.what for told in counted)
    for what in left.elements():  # true already when it was told while the clock was wrong
        assert in_time[what] <= at, what
        assert what in {told.what for told in wrong.told if told.is_meanwhile}
    assert len(counted) + left.total() == len(right.told)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_rotation_that_was_cancelled_meanwhile_brings_back_no_secret_but_its_own(
    database: Database, run: Run, is_told: bool
) -> None:
    """By the clock that was wrong, the rotation before it was over."""

    async def main() -> None:
        clock = HandClock(now() - HOUR)
        conninfo = believing_any_clock(database)
        async with open_ledger(conninfo, clock_and_ids=clock.clock_and_ids) as ledger:
            w = Weeks(database, ledger, clock)
            token = await _made(w, Plan(DAY), clock.now)
            await _rotate(w, token, 30 * DAY)
            ends_at = clock.now + 30 * DAY
            clock.advance(40 * DAY)
            async with w.teller() as teller:
                await w.rounds(teller, is_told)
            await _rotate(w, token, 30 * DAY)
            await ledger.cancel_rotation(token.id, by=ADA)
        _repair(database)
        catch_up(database)
        async with open_ledger(database.app) as ledger:
            state = await ledger.scim_token(token.id)
            assert [held.overlap_until for held in state.secrets[:2]] == [ends_at, None]
        ((secrets,),) = select(database, "SELECT secrets FROM views.scim_tokens_v2")
        ended_at = [each.get("ended_at") for each in json.loads(secrets)]
        assert ended_at[:2] == [rfc3339(ends_at), None]

    run(main())


async def _live(
    database: Database, plans: list[Plan], at: datetime, *, jump: timedelta, let: frozenset[int]
) -> Lived:
    """The plans, with a jump of the clock at `at`, and the six weeks after it."""
    clock = HandClock(at)
    conninfo = believing_any_clock(database)
    async with open_ledger(conninfo, clock_and_ids=clock.clock_and_ids) as ledger:
        w = Weeks(database, ledger, clock)
        async with w.teller() as teller:
            tokens = await _before(w, teller, plans, at)
            clock.now = at + jump
            done = {n for n in sorted(let) if await _meanwhile(w, tokens[n], plans[n])}
            await w.create()  # whatever else is told, there is something to repair
            await w.rounds(teller, 2)
    clock.now = at + HOUR
    if jump:
        _repair(database)
    async with open_ledger(conninfo, clock_and_ids=clock.clock_and_ids) as ledger:
        w = Weeks(database, ledger, clock)
        good = [await _good(w, token) for token in tokens]
        async with w.teller() as teller:
            await w.rounds(teller)
            await w.live(teller, 2 * DAY, step=4 * HOUR)
            await w.live(teller, 40 * DAY, step=2 * DAY)
    return Lived(frozenset(done), good, _told(database, [token.id for token in tokens]))


async def _before(w: Weeks, teller: Teller, plans: list[Plan], at: datetime) -> list[Token]:
    """Until the jump; its last instant is that of an event."""
    made: dict[int, Token] = {}
    for age in sorted({plan.age for plan in plans}, reverse=True):
        w.clock.now = at - age
        for number, plan in enumerate(plans):
            if plan.age == age:
                made[number] = await _made(w, plan, at)
        await w.rounds(teller)
    tokens = [made[number] for number in range(len(plans))]
    w.clock.now = at - 2 * DAY
    for plan, token in zip(plans, tokens, strict=True):
        if plan.overlap is not None:
            await _rotate(w, token, plan.overlap)
    for ago in (3 * HOUR, HOUR):
        w.clock.now = at - ago
        for plan, token in zip(plans, tokens, strict=True):
            await _use(w, token, plan.uses)
        await w.rounds(teller)
    w.clock.now = at
    await w.create()
    await w.rounds(teller)
    return tokens


async def _made(w: Weeks, plan: Plan, at: datetime) -> Token:
    ends_at = None if plan.ends_in is None else at + plan.ends_in
    token, secret = await w.ledger.create_scim_token(NewScimToken(TEAM_ID, "Okta", ends_at), by=ADA)
    return Token(token.id, [secret])


async def _rotate(w: Weeks, token: Token, overlap: timedelta) -> None:
    _, secret = await w.ledger.rotate_scim_token(token.id, overlap=overlap, by=ADA)
    token.secrets.append(secret)


async def _use(w: Weeks, token: Token, which: str) -> None:
    if which in {"older", "both"}:
        await w.use(token.secrets[0])
    if which in {"newer", "both"}:
        await w.use(token.secrets[-1])


async def _meanwhile(w: Weeks, token: Token, plan: Plan) -> bool:
    """Whether it was done: some is refused by a time that has jumped."""
    try:
        match plan.meanwhile:
            case "use older":
                await _use(w, token, "older")
            case "use newer":
                await _use(w, token, "newer")
            case "rotate" if plan.overlap is None:
                await _rotate(w, token, 8 * DAY)
    except Refusal:
        return False
    return True


def _repair(database: Database) -> None:
    wait_until_left(database)
    with psycopg.connect(database.owner) as owner:
        assert repair_ledger_time(
            owner, clock=now(), by="ada@bastion", reason="the database's clock"
        )
    _assert_sound(database)
    with psycopg.connect(database.app, autocommit=True) as connection:
        for projection in PROJECTIONS:
            rebuild(connection, projection, accepts_difference=True)


def _assert_sound(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None
    assert_consistent(database)


async def _good(w: Weeks, token: Token) -> list[bool]:
    state = await w.ledger.scim_token(token.id)
    digests = [PEPPER.digest(secret).value for secret in token.secrets]
    return [state.refusal(digest, at=w.clock.now) is None for digest in digests]


def _told(database: Database, tokens: list[UUID]) -> list[Told]:
    rows = select(
        database,
        "SELECT e.originator_id, e.at, e.topic, e.state, r.notification_id IS NOT NULL "
        "FROM ledger.events e LEFT JOIN ledger.repaired_events r USING (notification_id) "
        "ORDER BY e.notification_id",
    )
    return [
        Told((tokens.index(id_), _sentence(REGISTRY.decode(topic, state))), at, is_meanwhile)
        for id_, at, topic, state, is_meanwhile in rows
        if topic in TOPICS | {RotationFinished.topic} and id_ in tokens
    ]


def _sentence(event: Event) -> str:
    """What is the same in both ledgers: ids of secrets are not."""
    match event:
        case RotationFinished():
            return f"finished, {event.cause}"
        case RotationEnding() | OldSecretStillUsed():
            return str(replace(event, secret=""))
        case _:
            return str(event)

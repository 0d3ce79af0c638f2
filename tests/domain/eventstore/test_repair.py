"""B1, the way back: a ledger whose time has jumped is set right, and keeps what it said before."""

import asyncio
import json
import random
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.api_token.session import LIFETIME
from domain.authority import ApiCall
from domain.commands import NewApiToken
from domain.errors import RotatedTooSoon, RotationUnderway, TokenExpired, TokenRefused
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.ledger_clock import AHEAD_MAX
from domain.eventstore.repair import NotRepairable, TimeRepair, repair_ledger_time, repair_states
from domain.ledger import TokenLedger
from domain.postgres.migrate import available
from domain.secret import Secret
from tests.conftest import Database, Run, new_database, now, open_ledger
from tests.domain.eventstore.consistency import wait_until_left
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.eventstore.test_ledger_time import (
    ADA,
    DAY,
    IDP,
    Drifting,
    assert_clean,
    create,
    instants,
)

INSTANTS: Final = {
    ("scim_token.created.v1", "expires_at"): "what the caller asked for",
    ("scim_token.used.v1", "first_at"): "not after the event",
    ("scim_token.rotated.v1", "overlap_until"): "moves with the event",
    ("scim_token.changed.v1", "expires_at"): "what the caller asked for",
    ("scim_token.setup_link_created.v1", "ends_at"): "moves with the event",
    ("scim_token.expiring.v1", "expires_at"): "stays as it was told, and counts if it is true",
    ("scim_token.expired.v1", "expires_at"): "stays as it was told, and counts if it is true",
    ("scim_token.unused.v1", "since"): "stays as it was told, and counts if it is true",
    ("scim_token.rotation_ending.v1", "ends_at"): "stays as it was told, and counts if it is true",
    ("scim_token.old_secret_still_used.v1", "used_at"): "stays as it was told, and counts likewise",
    ("api_token.rotated.v1", "overlap_until"): "moves with the event",
    ("api_token.created.v1", "expires_at"): "moves with the event, unless it was asked for",
    ("archive.extended.v1", "before"): "long before whatever a clock of now has jumped over",
    ("refusal_tally.counted.v1", "minute"): "of the clock of whoever counted; names the stream",
}
"""What a repair does with each instant inside an event."""


FOR_EVERYTHING: Final = NewApiToken(uuid4(), None, tuple(Permission), None)


def comparing_clocks_again(database: Database) -> None:
    """The function of this release, where a test had put another."""
    with psycopg.connect(database.owner) as owner:
        owner.execute(available()[4].encode())


def repaired(database: Database, *, is_left: bool = True) -> TimeRepair | None:
    if is_left:
        wait_until_left(database)
    with psycopg.connect(database.owner) as owner:
        return repair_ledger_time(
            owner, clock=now(), by="ada@bastion", reason="the clock of replica 2"
        )


def events(database: Database) -> dict[int, tuple[str, datetime, bytes]]:
    with psycopg.connect(database.owner) as owner:
        rows = owner.execute(
            "SELECT notification_id, topic, at, state FROM ledger.events"
        ).fetchall()
    return {position: (topic, at, state) for position, topic, at, state in rows}


def kept(database: Database) -> dict[int, tuple[str, datetime, bytes]]:
    with psycopg.connect(database.owner) as owner:
        rows = owner.execute(
            "SELECT notification_id, topic, at, state FROM ledger.repaired_events"
        ).fetchall()
    return {position: (topic, at, state) for position, topic, at, state in rows}


async def jumped(
    database: Database, *, ahead: timedelta = 40 * DAY
) -> tuple[Secret, Secret, Secret]:
    """A ledger that one process has taken ahead:
    secrets of before, of during, and one rotated away.
    """
    believing_any_clock(database)
    async with (
        open_ledger(database.app) as sane,
        open_ledger(database.app, clock_and_ids=Drifting(ahead).clock_and_ids) as wrong,
    ):
        before = (await create(sane))[1]
        rotated, old = await create(sane, lifetime=None)
        await sane.authenticate(before, IDP)
        during = (await create(wrong, lifetime=100 * DAY))[1]
        await sane.rotate_scim_token(rotated.id, overlap=timedelta(hours=1), by=ADA)
        await sane.create_api_token(NewApiToken(uuid4(), None, tuple(Permission), 10 * DAY))
        await sane.authenticate(during, IDP)
        with pytest.raises(TokenExpired):
            await sane.authenticate(before, IDP)
    comparing_clocks_again(database)
    return before, during, old


def test_every_instant_in_an_event_has_its_rule() -> None:
    """A new event with an instant in it has to say what a repair does with it."""
    found = {
        (topic, field.encode_name)
        for topic in REGISTRY.topics
        for field in msgspec.structs.fields(REGISTRY._decoders[topic].type)
        if "datetime" in str(field.type)
    }
    assert found == INSTANTS.keys()


def test_a_ledger_that_has_jumped_is_set_right_and_every_token_is_good_again(
    database: Database, run: Run
) -> None:
    before, during, old = asyncio.run(jumped(database))
    was = events(database)
    repair = repaired(database)
    assert repair is not None
    assert (repair.first, repair.last, repair.events) == (4, 8, 5)
    is_ = events(database)
    assert {position: was[position] for position in kept(database)} == kept(database)
    assert {position for position in was if was[position] != is_[position]} == kept(database).keys()
    assert instants(database)[-1] <= now()
    assert_clean(database)

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            for secret in (before, during, old):  # the overlap of an hour has just begun
                assert (await ledger.authenticate(secret, IDP)).use_id is not None
            assert (await create(ledger, lifetime=20 * DAY))[0].expires_at is not None
            for api_token in await ledger.api_tokens():
                assert api_token.expires_at is not None
                assert abs(api_token.expires_at - now() - 10 * DAY) < timedelta(minutes=1)

    run(main())
    assert_clean(database)
    rotated = json.loads(
        next(state for topic, _, state in is_.values() if topic == "scim_token.rotated.v1")
    )
    assert datetime.fromisoformat(rotated["overlap_until"]) - now() < timedelta(hours=1)


def test_a_second_repair_finds_nothing_and_a_sound_ledger_is_left_alone(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            await create(ledger)

    run(main())
    assert repaired(database) is None
    asyncio.run(jumped(database))
    assert repaired(database) is not None
    was = events(database)
    assert repaired(database) is None
    assert events(database) == was


@pytest.mark.parametrize("ahead_ms", [200, 1000, 1900])
def test_what_is_ahead_no_further_than_a_process_may_be_is_sound(
    database: Database, run: Run, ahead_ms: int
) -> None:
    ahead = timedelta(milliseconds=ahead_ms)

    async def main() -> None:
        async with open_ledger(database.app, clock_and_ids=Drifting(ahead).clock_and_ids) as ledger:
            await create(ledger)

    run(main())
    was = events(database)
    assert repaired(database) is None
    assert events(database) == was


@pytest.mark.parametrize("ahead", [timedelta(hours=4), 40 * DAY])
def test_an_end_that_was_asked_for_stays_and_one_that_was_reckoned_moves(
    database: Database, run: Run, ahead: timedelta
) -> None:
    """Of an API token; a session's is always reckoned."""
    believing_any_clock(database)
    asked_at = now() + 60 * DAY
    asked = msgspec.structs.replace(FOR_EVERYTHING, expires_at=asked_at)
    reckoned = msgspec.structs.replace(FOR_EVERYTHING, lifetime=10 * DAY)

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            first, _ = await ledger.create_api_token(FOR_EVERYTHING)
        async with open_ledger(database.app, clock_and_ids=Drifting(ahead).clock_and_ids) as ledger:
            made = [
                (await ledger.create_api_token(ask))[0].id
                for ask in (asked, reckoned, FOR_EVERYTHING)
            ]
            session, _ = await ledger.open_session(by=ApiCall(first.id))
        assert repaired(database) is not None
        async with open_ledger(database.app) as ledger:
            ends = [(await ledger.api_token(id_)).expires_at for id_ in (*made, session.id)]
        assert ends[0] == asked_at
        assert ends[2] is None
        for end, lifetime in ((ends[1], 10 * DAY), (ends[3], LIFETIME)):
            assert end is not None
            assert abs(end - now() - lifetime) < timedelta(minutes=1)

    run(main())
    assert_clean(database)


@pytest.mark.parametrize("away", [-DAY, -timedelta(seconds=4), timedelta(seconds=3), DAY], ids=str)
def test_nothing_is_repaired_by_a_clock_that_may_be_wrong(
    database: Database, away: timedelta
) -> None:
    """By a database's clock that is a day behind, every event of that day is ahead."""
    asyncio.run(jumped(database))
    wait_until_left(database)
    was = events(database)
    with (
        psycopg.connect(database.owner) as owner,
        pytest.raises(NotRepairable, match="that of the database: set both right"),
    ):
        repair_ledger_time(owner, clock=now() + away, by="ada@bastion", reason="it jumped")
    assert events(database) == was


def test_nothing_is_repaired_under_a_service(database: Database, run: Run) -> None:
    asyncio.run(jumped(database))
    was = events(database)

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            await ledger.time()
            with pytest.raises(NotRepairable, match="stop every one"):
                await asyncio.to_thread(repaired, database, is_left=False)

    run(main())
    assert events(database) == was


def test_a_repair_may_take_as_long_as_the_ledger_is_large(database: Database) -> None:
    limits = "statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"
    by, reason = "ada@bastion", "it jumped"
    with psycopg.connect(database.owner) as owner:
        for repair in (
            lambda: repair_ledger_time(owner, clock=now(), by=by, reason=reason),
            lambda: repair_states(owner, by=by, reason=reason),
        ):
            for limit in limits:
                owner.execute(f"SET {limit} = '20s'".encode())
            repair()
            shown = [owner.execute(f"SHOW {limit}".encode()).fetchone() for limit in limits]
            assert shown == [("0",), ("0",), ("10s",)]
            owner.rollback()


async def live(
    ledgers: list[TokenLedger], clocks: list[Drifting], chance: random.Random
) -> list[Secret]:
    """Some minutes of three processes whose clocks jump, in a ledger that believes them."""
    tokens = [await create(ledgers[0], lifetime=3000 * DAY) for _ in range(3)]
    for _ in range(30):
        place = chance.randrange(3)
        clocks[place].ahead = chance.choice((0, 0, 0, 1, -1)) * chance.uniform(0, 60) * DAY
        ledger, (token, secret) = ledgers[place], chance.choice(tokens)
        try:
            match chance.randrange(4):
                case 0:
                    tokens.append(await create(ledger, lifetime=3000 * DAY))
                case 1:
                    rotated, fresh = await ledger.rotate_scim_token(
                        token.id, overlap=30 * DAY, by=ADA
                    )
                    tokens.append((rotated, fresh))
                case _:
                    await ledger.authenticate(secret, IDP)
        except (TokenRefused, RotatedTooSoon, RotationUnderway):
            pass  # its overlap is over or under way, by a time that has jumped
    return [secret for _, secret in tokens]


@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_the_clocks_did_the_ledger_comes_back(server: str, seed: int) -> None:
    async def main(database: Database) -> list[Secret]:
        clocks = [Drifting() for _ in range(3)]
        async with (
            open_ledger(database.app, clock_and_ids=clocks[0].clock_and_ids) as one,
            open_ledger(database.app, clock_and_ids=clocks[1].clock_and_ids) as two,
            open_ledger(database.app, clock_and_ids=clocks[2].clock_and_ids) as three,
        ):
            return await live([one, two, three], clocks, random.Random(seed))

    async def use(database: Database, secrets: list[Secret]) -> None:
        async with open_ledger(database.app) as ledger:
            for secret in secrets:  # no overlap of 30 days has passed: only minutes have
                assert (await ledger.authenticate(secret, IDP)).use_id is not None

    with new_database(server) as database:
        believing_any_clock(database)
        secrets = asyncio.run(main(database))
        comparing_clocks_again(database)
        was = events(database)
        repaired(database)
        assert_clean(database)
        assert instants(database)[-1] <= now() + AHEAD_MAX
        assert was | kept(database) == was
        asyncio.run(use(database, secrets))
        assert_clean(database)

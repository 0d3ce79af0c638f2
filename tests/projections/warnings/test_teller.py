"""Warnings are told when they are true, once, whoever tells them and after whatever pause."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from domain.event import Event
from domain.scim_token.events import Presentation, Used
from domain.scim_token.warnings import (
    UNUSED_AFTER,
    Expired,
    Expiring,
    FirstUsed,
    Unused,
    UsedFromNewSource,
)
from projections.audit_trail import view as audit_trail
from projections.projection import Projection
from projections.scim_tokens import view as scim_tokens
from projections.warnings import due as due_warnings
from tests.conftest import Database, Run, catch_up
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.scenario import T0
from tests.projections.history import content, given, rebuilt
from tests.projections.warnings.weeks import ADA, DAY, HOUR, Told, weeks
from tests.turns import by_turns

YEAR = 365 * DAY


def ending(at: Any, *days: int) -> list[Event]:
    return [
        Expired(expires_at=at) if not each else Expiring(days=each, expires_at=at) for each in days
    ]


@pytest.mark.long
def test_a_year_of_a_token_is_warned_of_within_the_hour(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            await w.create()
            ends, _ = await w.create(lifetime=40 * DAY)
            end = w.clock.now + 40 * DAY
            await w.live(teller, 50 * DAY, step=6 * HOUR)
            assert w.events() == ending(end, 30, 7, 1, 0)
            assert [told.at for told in w.told(ends)] == [
                end - days * DAY for days in (30, 7, 1, 0)
            ]
        assert_consistent(database)

    run(main())


@pytest.mark.long
def test_nobody_uses_it_is_told_once_a_silence(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, secret = await w.create()
            await w.live(teller, 5 * DAY, step=DAY)
            await w.use(secret)
            used_at = w.clock.now
            await w.live(teller, 2 * UNUSED_AFTER, step=3 * DAY)
            assert Unused(since=used_at) in w.events(token_id)
            await w.use(secret)
            again_at = w.clock.now
            await w.live(teller, 2 * UNUSED_AFTER, step=3 * DAY)
            assert [event for event in w.events(token_id) if isinstance(event, Unused)] == [
                Unused(since=used_at),
                Unused(since=again_at),
            ]

    run(main())


@pytest.mark.parametrize("is_used", [False, True])
def test_a_suspension_that_was_taken_back_is_no_silence(
    database: Database, run: Run, *, is_used: bool
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, secret = await w.create()
            since = w.clock.now
            w.clock.advance(10 * DAY)
            if is_used:
                await w.use(secret)
                since = w.clock.now
            for _ in range(2):
                await w.ledger.suspend_scim_token(token_id, by=ADA)
                await w.live(teller, UNUSED_AFTER + DAY, step=13 * DAY)
                await w.ledger.resume_scim_token(token_id, by=ADA)
                await w.rounds(teller)
            resumed_at = w.clock.now
            await w.ledger.rotate_scim_token(token_id, overlap=timedelta(0), by=ADA)
            await w.live(teller, UNUSED_AFTER + DAY, step=DAY)
            found = [told for told in w.told(token_id) if isinstance(told.event, Unused)]
            assert found == [Told(token_id, resumed_at + UNUSED_AFTER, Unused(since=since))]

    run(main())


def test_a_first_use_and_each_new_address_are_told_once(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, secret = await w.create()
            unused, _ = await w.create()
            for source in ("192.0.2.1", "192.0.2.1", None, "192.0.2.2", "192.0.2.1", None):
                await w.use(secret, source=source)
                await w.rounds(teller, 2)
            w.clock.advance(2 * DAY)
            await w.use(secret, source="192.0.2.2")
            await w.rounds(teller, 2)
            assert w.events(token_id) == [
                FirstUsed(source="192.0.2.1"),
                UsedFromNewSource(source=None),
                UsedFromNewSource(source="192.0.2.2"),
            ]
            assert w.events(unused) == []
        assert_consistent(database)

    run(main())


def test_uses_of_a_release_that_told_nothing_are_no_news_after_an_upgrade(
    database: Database, run: Run
) -> None:
    """What they were used from is known, so that what is new is told."""
    here = Presentation(door="scim", source="192.0.2.1")
    old = Used(count=1, first_at=T0, presentation=here)

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, secret = await w.create()
            given(database, (token_id, old, T0), after=1)
            await w.rounds(teller, 2)
            await w.use(secret)
            await w.rounds(teller, 2)
            assert w.events() == []
            await w.use(secret, source="192.0.2.2")
            await w.rounds(teller, 2)
            assert w.events() == [UsedFromNewSource(source="192.0.2.2")]

    run(main())


@pytest.mark.long
def test_after_a_week_without_a_process_what_is_true_is_told_once(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w:
            soon, _ = await w.create(lifetime=32 * DAY)
            over, _ = await w.create(lifetime=35 * DAY)
            revoked, _ = await w.create(lifetime=35 * DAY)
            async with w.teller() as teller:
                await w.live(teller, 6 * DAY, step=DAY)
            await w.ledger.revoke_scim_token(revoked, by=ADA)
            w.clock.advance(24 * DAY)
            async with w.teller() as teller:
                await w.live(teller, DAY)
            assert w.events(soon) == ending(T0 + 32 * DAY, 30, 7, 1)
            w.clock.advance(7 * DAY)
            async with w.teller() as teller:
                await w.live(teller, DAY)
            assert w.events(soon) == ending(T0 + 32 * DAY, 30, 7, 1, 0)
            assert w.events(over) == ending(T0 + 35 * DAY, 30, 7, 0)
            assert w.events(revoked) == ending(T0 + 35 * DAY, 30)

    run(main())


def test_two_processes_tell_nothing_twice(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as one, w.teller() as other:
            for _ in range(20):
                await w.create(lifetime=2 * DAY)
            with w.followed():
                for _ in range(4):
                    await asyncio.gather(one.round(), other.round())
                    await asyncio.gather(one.round(), other.round())
                    w.clock.advance(DAY)
            assert sorted(map(repr, w.events())) == sorted(
                repr(event) for event in 20 * ending(T0 + 2 * DAY, 7, 1, 0)
            )
        assert_consistent(database)

    run(main())


@pytest.mark.parametrize("pause", [timedelta(0), 2 * DAY])
def test_what_was_appended_and_not_folded_yet_is_not_told_again(
    database: Database, run: Run, pause: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may die between an append and the view: its successor finds it due still. Later
    than a day its command is forgotten, and the state of the token says no.
    """
    monkeypatch.setattr("projections.view_reader.FRESH_TIMEOUT_S", 0.1)

    async def main() -> None:
        async with weeks(database) as w:
            token_id, _ = await w.create(lifetime=6 * DAY)
            catch_up(database)
            async with w.teller() as teller:
                await teller.round()
            assert w.events(token_id) == ending(T0 + 6 * DAY, 7)
            w.clock.advance(pause)
            async with w.teller() as teller:
                # Nobody follows the ledger: the view is where it was, and so is what is due.
                (stale,), _ = await teller.due.ends(w.clock.now, 0)
                await teller.warner.warn(stale)
            assert w.events(token_id) == ending(T0 + 6 * DAY, 7)

    run(main())


def test_more_than_is_read_at_a_time_is_told_in_rounds(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_warnings, "LIMIT", 3)

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            for _ in range(8):
                await w.create(lifetime=DAY)
            await w.rounds(teller, 3)
            assert w.events() == 8 * ending(T0 + DAY, 1)
            w.clock.advance(UNUSED_AFTER)
            for _ in range(7):
                await w.create()
            w.clock.advance(UNUSED_AFTER)
            await w.rounds(teller, 7)
            assert sum(isinstance(event, Unused) for event in w.events()) == 7

    run(main())


def test_one_token_that_cannot_be_told_keeps_no_other_back(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            lost, _ = await w.create(lifetime=DAY)
            kept, _ = await w.create(lifetime=DAY)
            catch_up(database)
            with psycopg.connect(database.owner) as owner:
                owner.execute("DELETE FROM ledger.aggregates WHERE originator_id = %s", [lost])
            with pytest.raises(Exception, match="no such token"):
                await teller.round()
            assert w.events() == ending(T0 + DAY, 1)
            assert w.events(kept) != []

    run(main())


@pytest.mark.long
@pytest.mark.parametrize(
    "view", by_turns([scim_tokens.PROJECTION, audit_trail.PROJECTION], one_of=2)
)
def test_a_rebuild_makes_the_same_of_warnings(
    database: Database, run: Run, view: Projection
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            await w.create(lifetime=40 * DAY)
            await w.create()
            await w.live(teller, 100 * DAY, step=DAY)
            assert len(w.events()) == 5
        catch_up(database)
        before = content(database, view)
        assert rebuilt(database, view) == before

    run(main())

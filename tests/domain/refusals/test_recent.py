"""What a process remembers of refused secrets: a flood of a bad one is recorded once a minute."""

import asyncio
import gc
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import StoreUnavailable, TokenExpired, TokenRefused, TokenRevoked, TokenSuspended
from domain.eventstore.command_batch import Command, Outcome
from domain.refusals.recent import RecentRefusals, RecordedRefusal
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import FIRST, IDP, MILLISECOND, MINUTE, SECOND, T0, THIRD, UNKNOWN


class Recording:
    """Records nothing but how often it was asked to."""

    def __init__(
        self, cause: type[TokenRefused] = TokenRevoked, failure: Exception | None = None
    ) -> None:
        self.times = 0
        self._cause = cause
        self._failure = failure

    async def __call__(self) -> RecordedRefusal:
        self.times += 1
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        return RecordedRefusal(self._cause, T0 + MINUTE)


def test_within_the_minute_the_cause_is_remembered(run: Run) -> None:
    async def story() -> None:
        memory, recording = RecentRefusals(), Recording()
        for at in (T0, T0 + timedelta(seconds=30), T0 + MINUTE - MILLISECOND):
            assert type(await memory.cause(FIRST.value, at=at, record=recording)) is TokenRevoked
        assert recording.times == 1
        await memory.cause(FIRST.value, at=T0 + MINUTE, record=recording)
        assert recording.times == 2

    run(story())


def test_those_that_come_together_share_one_record(run: Run) -> None:
    async def story() -> None:
        memory, recording = RecentRefusals(), Recording(TokenExpired)
        asked = (memory.cause(FIRST.value, at=T0, record=recording) for _ in range(100))
        causes = await asyncio.gather(*asked)
        assert {type(cause) for cause in causes} == {TokenExpired}
        assert len(set(map(id, causes))) == 100, "an exception is raised once"
        assert recording.times == 1

    run(story())


def test_each_secret_has_its_own(run: Run) -> None:
    async def story() -> None:
        memory, recording = RecentRefusals(), Recording()
        for digest in (FIRST, SECOND):
            await memory.cause(digest.value, at=T0, record=recording)
        assert recording.times == 2

    run(story())


def test_what_was_not_recorded_is_tried_again(run: Run) -> None:
    async def story() -> None:
        memory, failing = RecentRefusals(), Recording(failure=StoreUnavailable("away"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await memory.cause(FIRST.value, at=T0, record=failing)
        assert failing.times == 2
        assert type(await memory.cause(FIRST.value, at=T0, record=Recording())) is TokenRevoked

    run(story())


def test_a_failure_leaves_nothing_to_the_garbage_collector(run: Run) -> None:
    async def unavailable() -> RecordedRefusal:
        raise StoreUnavailable("away")

    async def fail(memory: RecentRefusals) -> None:
        with suppress(StoreUnavailable):
            await memory.cause(FIRST.value, at=T0, record=unavailable)

    async def story() -> None:
        memory = RecentRefusals()
        await fail(memory)
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await fail(memory)
            assert gc.collect() < 10
        finally:
            gc.enable()

    run(story())


def test_one_who_gives_up_waiting_does_not_take_the_others_along(run: Run) -> None:
    async def story() -> None:
        memory, recording = RecentRefusals(), Recording()
        first, second = (
            asyncio.ensure_future(memory.cause(FIRST.value, at=T0, record=recording))
            for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        assert type(await second) is TokenRevoked

    run(story())


def test_memory_is_bounded(run: Run) -> None:
    async def story() -> None:
        memory = RecentRefusals(max_known=10)
        for number in range(100):
            await memory.cause(bytes([number]), at=T0, record=Recording())
        assert len(memory) == 10

    run(story())


def test_the_longest_remembered_is_forgotten_first(run: Run) -> None:
    async def story() -> None:
        memory, known = RecentRefusals(max_known=3), Recording()
        for digest in (FIRST, SECOND):
            await memory.cause(digest.value, at=T0, record=known)
        for digest in (FIRST, THIRD, UNKNOWN):  # the first is due, and recorded once more
            await memory.cause(digest.value, at=T0 + MINUTE, record=known)
        for digest, is_known in ((FIRST, True), (THIRD, True), (UNKNOWN, True), (SECOND, False)):
            asked = Recording()
            await memory.cause(digest.value, at=T0, record=asked)
            assert asked.times == (0 if is_known else 1), digest

    run(story())


def events_of(database: Database, token_id: UUID) -> list[str]:
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute(
            "SELECT topic FROM ledger.events WHERE originator_id = %s ORDER BY originator_version",
            [token_id],
        )
        return [topic for (topic,) in rows]


def test_a_flood_of_a_known_bad_token_costs_one_command_a_minute(
    database: Database, run: Run
) -> None:
    async def story() -> None:
        clock = HandClock(T0)
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            operator = Operator(user_id=uuid4())
            token, secret = await ledger.create_scim_token(NewScimToken(uuid4(), "x"), by=operator)
            await ledger.revoke_scim_token(token.id, by=operator)

            async def flood() -> int:
                """How many commands 300 presentations gave."""
                before = commands(database)
                answers = await asyncio.gather(
                    *(ledger.authenticate(secret, IDP) for _ in range(300)), return_exceptions=True
                )
                assert {type(answer) for answer in answers} == {TokenRevoked}
                return commands(database) - before

            assert [await flood(), await flood()] == [1, 0]
            assert events_of(database, token.id)[2:] == ["scim_token.refused.v1"]
            clock.advance(MINUTE)
            assert [await flood(), await flood()] == [1, 0]
            assert events_of(database, token.id)[2:] == ["scim_token.refused.v1"] * 2

    run(story())


def test_that_it_is_suspended_is_remembered_for_seconds_since_it_can_be_taken_back(
    database: Database, run: Run
) -> None:
    async def story() -> None:
        clock = HandClock(T0)
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            by = Operator(user_id=uuid4())
            ask = NewScimToken(uuid4(), "x", T0 + MINUTE / 2)
            token, secret = await ledger.create_scim_token(ask, by=by)
            await ledger.suspend_scim_token(token.id, by=by)
            for _ in range(3):
                with pytest.raises(TokenSuspended):
                    await ledger.authenticate(secret, IDP)
            assert commands(database) == 3
            await ledger.resume_scim_token(token.id, by=by)
            clock.advance(MINUTE / 2)
            with pytest.raises(TokenExpired):
                await ledger.authenticate(secret, IDP)
            assert events_of(database, token.id)[1:] == [
                "scim_token.suspended.v1",
                "scim_token.refused.v1",
                "scim_token.resumed.v1",
            ]

    run(story())


@pytest.mark.parametrize("ends", ["suspension", "restriction"])
def test_who_is_let_in_again_before_a_refusal_is_on_record_is_let_in(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Nobody is told of a suspension that there never was."""

    async def story() -> None:
        by = Operator(user_id=uuid4())
        async with open_ledger(database.app) as ledger, open_ledger(database.app) as other:
            ask = NewScimToken(uuid4(), "x")
            token, secret = await other.create_scim_token(ask, by=by)
            execute = ledger.gate.execute

            async def later(command: Command, *, timeout_s: float) -> Outcome:
                if ends == "suspension":
                    await other.resume_scim_token(token.id, by=by)
                else:
                    await other.allow_any_network(token.id, by=by)
                return await execute(command, timeout_s=timeout_s)

            if ends == "suspension":
                await other.suspend_scim_token(token.id, by=by)
            else:
                await other.allow_networks(token.id, ["198.51.100.0/24"], by=by)
            monkeypatch.setattr(ledger.gate, "execute", later)
            assert (await ledger.authenticate(secret, IDP)).use_id is not None
            assert events_of(database, token.id)[-1:] == ["scim_token.used.v1"]

    run(story())


def test_a_row_that_differs_from_its_token_lets_nobody_in_and_is_asked_twice(
    database: Database, run: Run
) -> None:
    async def story() -> None:
        async with open_ledger(database.app) as ledger:
            ask = NewScimToken(uuid4(), "x")
            _, secret = await ledger.create_scim_token(ask, by=Operator(user_id=uuid4()))
            with psycopg.connect(database.owner) as owner:
                owner.execute("UPDATE ledger.secrets SET networks = '{198.51.100.0/24}'")
            before = commands(database)
            with pytest.raises(TokenRefused):
                await ledger.authenticate(secret, IDP)
            assert commands(database) - before == 2

    run(story())


def commands(database: Database) -> int:
    with psycopg.connect(database.owner) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM ledger.commands").fetchall()
        return int(count)

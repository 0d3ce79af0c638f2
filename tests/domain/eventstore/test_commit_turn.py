"""The turn that processes of one machine pass on: one batch at a time, and nobody depends on it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest

from domain.commands import CommandKey, NewScimToken
from domain.errors import Refusal
from domain.eventstore import commit_turn
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.commit_turn import CommitTurn, SharedCommitTurn, new_commit_turn
from domain.ledger import TokenLedger
from domain.secret import SecretKind, mint
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, Run
from tests.domain.eventstore.test_gate import ADA, IDP, TEAM, select

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no eventfd")

BATCH_S = 0.002


class Lane:
    """A process's queue. Its batches take a while, and tell `under_way` when they begin and end."""

    def __init__(self, fd: int, under_way: list["Lane"]) -> None:
        self.commit_turn = SharedCommitTurn(fd)
        self.batches: list[int] = []
        self.at_once = 0
        self._under_way = under_way
        self._jobs: Batcher[int, int] = Batcher(self._run, commit_turn=self.commit_turn)

    async def ask(self, times: int = 1) -> None:
        """One client that asks again as soon as it was answered."""
        for number in range(times):
            assert await self._jobs.submit(number, timeout_s=5) == number

    async def close(self) -> None:
        await self._jobs.close()

    async def _run(self, jobs: Sequence[Job[int, int]]) -> None:
        self._under_way.append(self)
        self.at_once = max(self.at_once, len(self._under_way))
        await asyncio.sleep(BATCH_S)
        self._under_way.remove(self)
        self.batches.append(len(jobs))
        for job in jobs:
            job.resolve(job.ask)


class Told(CommitTurn):
    """What one process tells the others and its own followers of, in order."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def take(self) -> None:
        self.order = ["taken"]

    def pass_on(self) -> None:
        self.order.append("passed on")

    def appended(self) -> None:
        self.order.append("appended")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine takes over a batch, nobody goes without the turn."""
    monkeypatch.setattr(commit_turn, "PATIENCE_S", 60.0)


@pytest.fixture
def fd() -> Iterator[int]:
    made = new_commit_turn()
    assert made is not None
    yield made
    os.close(made)


@asynccontextmanager
async def two_lanes(fd: int) -> AsyncIterator[tuple[Lane, Lane]]:
    under_way: list[Lane] = []
    lanes = Lane(fd, under_way), Lane(fd, under_way)
    yield lanes
    for lane in lanes:
        await lane.close()


async def seconds(lane: Lane) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await lane.ask()
    return loop.time() - began


@pytest.mark.usefixtures("unhurried")
def test_batches_of_two_lanes_are_never_under_way_at_once(fd: int) -> None:
    async def run() -> None:
        async with two_lanes(fd) as lanes, asyncio.TaskGroup() as group:
            for _ in range(8):
                for lane in lanes:
                    group.create_task(lane.ask(20))
        for lane in lanes:
            assert lane.at_once == 1
            assert sum(lane.batches) == 8 * 20
            assert max(lane.batches) > 4  # what queued up while the other one's was under way

    asyncio.run(run())


def test_a_lane_that_is_alone_waits_for_nobody(fd: int) -> None:
    async def run() -> None:
        async with two_lanes(fd) as (one, _):
            assert min([await seconds(one) for _ in range(10)]) < commit_turn.PATIENCE_S

    asyncio.run(run())


def test_a_turn_that_does_not_come_is_not_waited_for(fd: int) -> None:
    async def run() -> None:
        async with two_lanes(fd) as (one, other):
            await other.commit_turn.take()  # and keeps it: its database hangs
            assert await seconds(one) + 0.001 >= commit_turn.PATIENCE_S
            other.commit_turn.pass_on()
            assert min([await seconds(one) for _ in range(10)]) < commit_turn.PATIENCE_S

    asyncio.run(run())


@pytest.mark.parametrize("ending", ["it comes", "patience ends", "nobody waits any more"])
def test_who_no_longer_waits_is_not_woken_by_it(fd: int, ending: str) -> None:
    """For as long as nobody takes the turn, each look at it would be followed by the next."""

    async def run() -> None:
        waiter, other = SharedCommitTurn(fd), SharedCommitTurn(fd)
        await other.take()
        waiting = asyncio.ensure_future(waiter.take())
        await asyncio.sleep(commit_turn.PATIENCE_S / 10)
        if ending == "it comes":
            other.pass_on()
        elif ending == "nobody waits any more":
            waiting.cancel()
        await asyncio.wait([waiting])
        assert not asyncio.get_running_loop().remove_reader(fd)

    asyncio.run(run())


def test_a_turn_that_was_lost_with_its_process_is_made_anew(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_turn, "LOST_AFTER_S", 0.05)

    async def run() -> None:
        os.eventfd_read(fd)  # whoever had it was killed
        async with two_lanes(fd) as (one, other):
            await one.ask(8)
            assert min([await seconds(other) for _ in range(10)]) < commit_turn.PATIENCE_S

    asyncio.run(run())


def test_a_turn_that_somebody_has_for_long_is_not_made_anew(fd: int) -> None:
    async def run() -> None:
        turn, other = SharedCommitTurn(fd), SharedCommitTurn(fd)
        await other.take()
        for _ in range(4):
            await turn.take()
            turn.pass_on()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)

    asyncio.run(run())


@pytest.mark.usefixtures("unhurried")
def test_a_turn_passed_on_twice_becomes_one_again(fd: int) -> None:
    async def run() -> None:
        os.eventfd_write(fd, 2)
        async with two_lanes(fd) as lanes, asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.ask(20))
        assert [lane.at_once for lane in lanes] == [1, 1]

    asyncio.run(run())


def test_a_batch_that_fails_passes_the_turn_on(fd: int) -> None:
    async def broken(_: Sequence[Job[int, int]]) -> None:
        raise ConnectionError

    async def run() -> None:
        failing: Batcher[int, int] = Batcher(broken, commit_turn=SharedCommitTurn(fd))
        with pytest.raises(ConnectionError):
            await failing.submit(1, timeout_s=5)
        async with two_lanes(fd) as (one, _):
            assert min([await seconds(one) for _ in range(10)]) < commit_turn.PATIENCE_S

    asyncio.run(run())


def test_each_commit_passes_the_turn_on_and_what_it_stored_is_told(
    database: Database, run: Run
) -> None:
    """A use passes it on before anything else: others commit while its callers are answered. What
    stores nothing of its own tells nothing. And a repeat writes, so that its answer waits for the
    standbys which the first one waited for.
    """

    def stored() -> tuple[object, object]:
        ((events,),) = select(database, "SELECT count(*) FROM ledger.events")
        marks = select(database, "SELECT xmin::text FROM ledger.commands ORDER BY command_id")
        return events, marks

    async def main() -> None:
        told, key = Told(), CommandKey(uuid4(), b"request")
        async with TokenLedger(
            database.app,
            pepper=PEPPER,
            clock_and_ids=CLOCK_AND_IDS,
            on_append=told.appended,
            commit_turn=told,
        ) as ledger:
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "A", None), by=ADA)
            doings: dict[str, Callable[[], Awaitable[object]]] = {
                "use": lambda: ledger.authenticate(secret, IDP),
                "unknown": lambda: ledger.authenticate(
                    mint(SecretKind.SCIM_LIVE, entropy=bytes(32)), IDP
                ),
                "create": lambda: ledger.create_scim_token(
                    NewScimToken(TEAM, "B", None), by=ADA, key=key
                ),
                "repeat": lambda: ledger.create_scim_token(
                    NewScimToken(TEAM, "B", None), by=ADA, key=key
                ),
                "revoke": lambda: ledger.revoke_scim_token(token.id, by=ADA),
                "use what is revoked": lambda: ledger.authenticate(secret, IDP),
                "use it again": lambda: ledger.authenticate(secret, IDP),
            }
            for name, does in doings.items():
                told.order.clear()
                before = stored()
                with suppress(Refusal):
                    await does()
                order = list(told.order)
                after = stored()
                if "use" in name or name == "unknown":
                    assert order[:2] == ["taken", "passed on"], name
                if after[0] != before[0]:
                    assert "appended" in order, name
                if name in {"unknown", "use it again"}:
                    assert "appended" not in order, name
                assert name != "repeat" or after[1] != before[1]

    run(main())

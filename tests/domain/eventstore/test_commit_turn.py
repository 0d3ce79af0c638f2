"""The turn that processes of one machine pass on: one batch at a time, and nobody depends on it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from domain.eventstore import commit_turn
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.commit_turn import SharedCommitTurn, new_commit_turn

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

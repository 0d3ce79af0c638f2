"""Group commit: who goes together, and that nobody waits for those who do not come."""

import asyncio
from collections.abc import Sequence

import pytest

from domain.eventstore.batcher import ENOUGH, QUIET_TURNS, Batcher, Job
from tests.conftest import Run


class Lane:
    """A queue whose batches end in the turn that they begin in. batches: the size of each."""

    def __init__(self, *, max_batch: int = 1000) -> None:
        self.batches: list[int] = []
        self.jobs: Batcher[int, int] = Batcher(self._run, max_batch=max_batch)

    async def _run(self, jobs: Sequence[Job[int, int]]) -> None:
        self.batches.append(len(jobs))
        for job in jobs:
            job.resolve(job.ask)

    async def ask(self, number: int, *, after_turns: int = 0) -> None:
        """One client, who comes later."""
        for _ in range(after_turns):
            await asyncio.sleep(0)
        assert await self.jobs.submit(number, timeout_s=5) == number


class TestGather:
    def test_who_comes_a_turn_later_goes_with_the_others(self, run: Run) -> None:
        async def main() -> None:
            lane = Lane()
            await asyncio.gather(*(lane.ask(turn, after_turns=turn) for turn in range(5)))
            assert lane.batches == [5]

        run(main())

    def test_who_comes_alone_waits_for_a_few_turns(self, run: Run) -> None:
        async def main() -> None:
            lane, turns = Lane(), 0
            asked = asyncio.ensure_future(lane.ask(1))
            while not lane.batches:
                await asyncio.sleep(0)
                turns += 1
            # one to ask, one to begin with
            assert turns <= QUIET_TURNS + 2
            await asked

        run(main())

    def test_enough_of_them_wait_for_nobody(self, run: Run) -> None:
        async def main() -> None:
            lane, turns = Lane(), 0
            asked = asyncio.gather(*(lane.ask(number) for number in range(ENOUGH)))
            while not lane.batches:
                await asyncio.sleep(0)
                turns += 1
            assert (lane.batches, turns) == ([ENOUGH], 2)
            await asked

        run(main())

    @pytest.mark.parametrize("max_batch", [4, 1000])
    def test_who_keeps_coming_makes_no_larger_batch(self, run: Run, max_batch: int) -> None:
        async def main() -> None:
            lane = Lane(max_batch=max_batch)
            asked = [lane.ask(turn, after_turns=turn) for turn in range(100)]
            await asyncio.gather(*asked)
            full = min(ENOUGH, max_batch)
            assert lane.batches == [full] * (100 // full) + [100 % full] * bool(100 % full)

        run(main())

"""Group commit: who goes together, that nobody waits for those who do not come, and what holds
under any order of questions, ends of batches and losses of patience.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.errors import Overloaded, StoreUnavailable
from domain.eventstore.batcher import ENOUGH, QUIET_TURNS, SWEEP_EVERY_S, Batcher, Job
from domain.eventstore.commit_turn import CommitTurn
from tests.conftest import Run

MAX_BATCH: Final = 3
MAX_QUEUE: Final = 5
PATIENCE_S: Final = 0.03
TURNS: Final = 20
"""Of the event loop; in fewer, whatever can go on without time or an end has done so."""

STEPS: Final = st.lists(
    st.sampled_from(
        ["ask", "ask", "ask", "end", "end", "give up", "turn", "break", "half", "wait", "close"]
    ),
    max_size=40,
)


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


class HandLoop(asyncio.SelectorEventLoop):
    """Its time is moved by the test."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def count_timers(self) -> int:
        return sum(not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]


class Turns(CommitTurn):
    """Counts them."""

    taken = passed_on = 0

    async def take(self) -> None:
        self.taken += 1

    def pass_on(self) -> None:
        self.passed_on += 1


class Broken(Exception):
    """What a batch ends with."""


class Queue:
    """A batcher whose batches end when the test says so."""

    def __init__(self, loop: HandLoop) -> None:
        self.loop = loop
        self.turns = Turns()
        self.jobs: Batcher[int, int] = Batcher(
            self._run, max_batch=MAX_BATCH, max_queue=MAX_QUEUE, commit_turn=self.turns
        )
        self.answers: list[asyncio.Future[int]] = []
        self.deadlines: list[float] = []
        self.begun: list[int] = []
        self.broken: list[str] = []
        self.ends: asyncio.Future[str] | None = None

    async def _run(self, jobs: Sequence[Job[int, int]]) -> None:
        self.begun += [job.ask for job in jobs]
        held = {  # what is raised here would be taken for the batch's end
            "one batch at a time": self.ends is None,
            "in its turn": self.turns.taken == self.turns.passed_on + 1,
            "some, and not too many": 1 <= len(jobs) <= MAX_BATCH,
            "nothing is done for nobody": not any(job.answer.done() for job in jobs),
            "who came first goes first, and once": self.begun == sorted(set(self.begun)),
        }
        self.broken += [promise for promise, is_kept in held.items() if not is_kept]
        self.ends = self.loop.create_future()
        how = await self.ends
        self.ends = None
        for job in jobs[: {"end": len(jobs), "half": len(jobs) // 2, "break": 0}[how]]:
            job.resolve(job.ask)
        if how != "end":
            raise Broken

    def ask(self) -> None:
        asked = len(self.answers)
        last = self.begun[-1] if self.begun else -1
        waiting = [n for n in range(last + 1, asked) if not self.answers[n].done()]
        try:
            self.answers.append(self.jobs.submit(asked, timeout_s=PATIENCE_S))
        except Overloaded:
            assert asked - last > MAX_QUEUE, "there was room"
        else:
            assert len(waiting) < MAX_QUEUE, "there was none"
            self.deadlines.append(self.loop.now + PATIENCE_S)

    async def step(self, step: str) -> None:
        if step == "ask":
            self.ask()
        elif step == "give up":
            for answer in [answer for answer in self.answers if not answer.done()][-1:]:
                answer.cancel()
        elif step == "close":
            closing = asyncio.ensure_future(self.jobs.close())
            await asyncio.sleep(0)
            closing.cancel()
        elif step == "wait":
            self.loop.now += SWEEP_EVERY_S
        elif self.ends is not None and not self.ends.done() and step != "turn":
            self.ends.set_result(step)
        for _ in range(1 if step == "turn" else TURNS):
            await asyncio.sleep(0)
        assert not self.broken
        assert self.loop.count_timers() <= 1, "one timer for all"
        self.check_deadlines()

    def check_deadlines(self) -> None:
        for answer, deadline in zip(self.answers, self.deadlines, strict=True):
            if deadline + SWEEP_EVERY_S <= self.loop.now:
                assert answer.done(), "who waits is told in time"
            if answer.done() and not answer.cancelled():
                error = answer.exception()
                assert error is None or type(error) in {Broken, StoreUnavailable}
                assert type(error) is not StoreUnavailable or deadline <= self.loop.now


@given(STEPS)
@example(["ask", *["wait"] * 4])
@example(["ask", "turn", "give up", "ask", *["wait"] * 5])
@example([*["ask"] * 9, *["end"] * 4])
@settings(max_examples=150)
def test_everybody_is_answered_once_in_time_and_in_turn(steps: list[str]) -> None:
    loop, failures = HandLoop(), []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))

    async def story() -> None:
        queue = Queue(loop)
        for step in steps:
            await queue.step(step)
        closing = asyncio.ensure_future(queue.jobs.close())
        for _ in range(2 * len(steps) + 2):
            await queue.step("end")
        assert closing.done(), "all that was accepted is answered"
        assert all(answer.done() for answer in queue.answers)
        for number, answer in enumerate(queue.answers):
            assert answer.cancelled() or answer.exception() or answer.result() == number
        assert queue.turns.taken == queue.turns.passed_on
        for _ in range(2):
            await queue.step("wait")
        assert not loop.count_timers(), "a queue at rest sets no timer"

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
    assert not failures

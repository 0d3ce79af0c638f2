"""Group commit: jobs that arrive while a batch runs make the next batch.

No clock is waited for: a window of one or two milliseconds to fill a batch halved the rate it was
meant to raise. A small batch waits until the event loop brings it no more, which takes microseconds
where nobody comes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from domain.errors import LedgerError, Overloaded, StoreUnavailable, without_frames
from domain.eventstore.commit_turn import ALONE, CommitTurn
from domain.instruments import LaneInstruments

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

SWEEP_EVERY_S: Final = 0.02
"""How late a deadline may be noticed.

One timer for all who wait: one each would cost more than the wait.
"""

ENOUGH: Final = 12
"""Jobs that leave at once. A batch costs by itself what ten and more of its jobs do; a larger one
would save little of that, and what is done while it runs would wait for it.
"""

QUIET_TURNS: Final = 3
"""How many turns of the event loop bring no job before a smaller batch leaves.

What a socket has in one turn is read in it, is a request in the next, and a job behind those
that the loop had begun before.
"""


class Job(Generic[Ask, Answer]):
    """One caller's question and the future that it waits on.

    deadline: loop time after which nobody waits any more. origin: for who traces it.
    """

    __slots__ = ("answer", "ask", "deadline", "origin")

    def __init__(self, ask: Ask, answer: asyncio.Future[Answer], deadline: float) -> None:
        self.ask = ask
        self.answer = answer
        self.deadline = deadline
        self.origin: object = None

    def resolve(self, answer: Answer) -> None:
        """Answer, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Refuse, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher(Generic[Ask, Answer]):
    """Runs `run` on all that is queued, one batch at a time, for as long as something is queued.

    run: answers every job of the batch; whatever it raises refuses those that it left unanswered.
    max_batch, max_queue: jobs. A full queue refuses with Overloaded at once.
    commit_turn: taken before each batch and passed on after it, or sooner by `run`.
    instruments: of this queue.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job[Ask, Answer]]], Awaitable[None]],
        *,
        max_batch: int = 1000,
        max_queue: int = 10_000,
        commit_turn: CommitTurn = ALONE,
        instruments: LaneInstruments | None = None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._enough = min(ENOUGH, max_batch)
        self._max_queue = max_queue
        self._commit_turn = commit_turn
        self._instruments = instruments or LaneInstruments()
        self._tracer = self._instruments.tracer
        self._queue: deque[Job[Ask, Answer]] = deque()
        self._under_way: Sequence[Job[Ask, Answer]] = ()
        self._loop: asyncio.AbstractEventLoop
        self._drain: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def submit(self, ask: Ask, *, timeout_s: float) -> "asyncio.Future[Answer]":
        """Queue `ask`; the future is its answer, or StoreUnavailable after `timeout_s`.

        Raises Overloaded.
        """
        if len(self._queue) >= self._max_queue:
            self._instruments.limited.add("queue")
            raise Overloaded("too many requests are waiting")
        if self._drain is None:
            # Asked for once per run of batches: Python 3.11 makes a system call of it.
            self._loop = asyncio.get_running_loop()
            self._drain = self._loop.create_task(self._drain_queue())
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(SWEEP_EVERY_S, self._sweep)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        job = Job(ask, answer, self._loop.time() + timeout_s)
        if self._tracer is not None:
            job.origin = self._tracer.asked()
        self._queue.append(job)
        return answer

    async def close(self) -> None:
        """Wait until everything that was queued is answered."""
        while self._drain is not None:
            await asyncio.shield(self._drain)

    async def _drain_queue(self) -> None:
        try:
            while self._queue:
                await self._gather()
                await self._commit_turn.take()
                self._instruments.depth.observe(len(self._queue))
                # Those whose caller gave up are left out: nothing is done for nobody.
                taken = [
                    self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))
                ]
                self._under_way = [job for job in taken if not job.answer.done()]
                self._instruments.batch.observe(len(self._under_way))
                await self._answer(self._under_way)
        finally:
            self._under_way = ()
            self._drain = None

    async def _gather(self) -> None:
        """Let those come who are on their way: who was just answered often asks again."""
        queue = self._queue
        known, quiet_turns = len(queue), 0
        while known < self._enough and quiet_turns < QUIET_TURNS:
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if len(queue) == known else 0
            known = len(queue)

    async def _answer(self, batch: Sequence[Job[Ask, Answer]]) -> None:
        try:
            if batch and self._tracer is None:
                await self._run(batch)
            elif batch and self._tracer is not None:
                origins = [job.origin for job in batch]
                with self._tracer.batch(self._instruments.name, len(batch), origins):
                    await self._run(batch)
        except LedgerError as refusal:
            # Its frames have the batch, whose answers are going to have it.
            _fail(batch, without_frames(refusal))
        except Exception as error:  # noqa: BLE001 - whatever broke, every caller gets an answer
            _fail(batch, error)  # a mistake of ours: its frames tell where it is
        finally:
            self._commit_turn.pass_on()

    def _sweep(self) -> None:
        now = self._loop.time()
        for job in chain(self._under_way, self._queue):
            if job.deadline <= now:
                job.fail(StoreUnavailable("no answer within the deadline"))
        self._instruments.waiting.set(len(self._queue))
        is_idle = self._drain is None
        self._sweeper = None if is_idle else self._loop.call_later(SWEEP_EVERY_S, self._sweep)


def _fail(batch: Iterable[Job[Any, Any]], error: Exception) -> None:
    for job in batch:
        job.fail(error)

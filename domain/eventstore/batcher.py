"""Group commit, as a shape: whatever queued up while one batch was under way becomes the next batch.

No artificial wait: a window of one or two milliseconds to fill a batch halved the rate it was meant to raise.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from domain.errors import Overloaded, StoreUnavailable

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Job(Generic[Ask, Answer]):
    """One caller's question and the future that it waits on.

    deadline: loop time after which nobody waits any more.
    """

    __slots__ = ("answer", "ask", "deadline")

    def __init__(self, ask: Ask, answer: asyncio.Future[Answer], deadline: float) -> None:
        self.ask = ask
        self.answer = answer
        self.deadline = deadline

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
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job[Ask, Answer]]], Awaitable[None]],
        *,
        max_batch: int = 1000,
        max_queue: int = 10_000,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queue: deque[Job[Ask, Answer]] = deque()
        self._drain: asyncio.Task[None] | None = None

    async def submit(self, ask: Ask, *, timeout_s: float) -> Answer:
        """Queue `ask` and wait for its answer.

        Raises StoreUnavailable after `timeout_s`, Overloaded at once.
        """
        if len(self._queue) >= self._max_queue:
            raise Overloaded("too many requests are waiting")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(Job(ask, answer, loop.time() + timeout_s))
        if self._drain is None:
            self._drain = loop.create_task(self._drain_queue())
        expiry = loop.call_later(timeout_s, _expire, answer)
        try:
            return await answer
        finally:
            expiry.cancel()

    async def close(self) -> None:
        """Wait until everything that was queued is answered."""
        while self._drain is not None:
            await asyncio.shield(self._drain)

    async def _drain_queue(self) -> None:
        try:
            while self._queue:
                now = asyncio.get_running_loop().time()
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))]
                waiting = [job for job in batch if job.deadline > now and not job.answer.done()]
                await self._answer(waiting)
        finally:
            self._drain = None

    async def _answer(self, batch: Sequence[Job[Ask, Answer]]) -> None:
        try:
            await self._run(batch)
        except Exception as error:  # noqa: BLE001 - whatever broke, every caller gets an answer
            for job in batch:
                job.fail(error)


def _expire(answer: asyncio.Future[Answer]) -> None:
    if not answer.done():
        answer.set_exception(StoreUnavailable("no answer within the deadline"))

"""Bound the time of a whole request, beside the bounds of its parts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

ANSWER_WITHIN_S: Final = 1.9
AUTHENTICATE_WITHIN_S: Final = 0.5
_KEY: Final = "deadline"
App: TypeAlias = Callable[[HTTPScope, Receive, Send], Awaitable[None]]

_left_behind: Final[set[asyncio.Task[None]]] = set()
"""Requests that were refused and have not ended yet: the loop itself would forget them."""


class Deadline:
    """Of one request. expired: done once the request has spent `within_s`, pauses not counted."""

    def __init__(self, within_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + within_s
        self.expired: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_at(self._at, self._expire)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time that the block takes does not count: something else bounds it."""
        self._timer.cancel()
        began = self._loop.time()
        try:
            yield
        finally:
            self._at += self._loop.time() - began
            self._timer = self._loop.call_at(self._at, self._expire)

    def end(self) -> None:
        """The request was answered."""
        self._timer.cancel()

    def _expire(self) -> None:
        if not self.expired.done():
            self.expired.set_result(None)


def deadline_of(scope: Scope) -> Deadline:
    """The deadline of the request that is being answered."""
    found: Deadline = scope["state"][_KEY]
    return found


async def answer_in_time(
    app: App, refuse: App, scope: HTTPScope, receive: Receive, send: Send, *, within_s: float
) -> None:
    """Run `app`; once it has spent `within_s` without an answer,
    cancel it and run `refuse` instead.

    Time spent waiting for the client's body does not count (the server bounds that), nor a wait
    that the client asked for. What is refused is cancelled, so that none of its commands takes
    effect later: one that waits for its turn is left out of it. Nobody waits for the cancelled one
    to end: what it still sends is dropped.
    """
    deadline = Deadline(within_s)
    scope["state"][_KEY] = deadline
    is_answered = is_refused = False

    async def patient_receive() -> HTTPReceiveMessage:
        with deadline.paused():
            message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]
        return message

    async def guarded_send(message: Message) -> None:
        nonlocal is_answered
        if not is_refused:
            is_answered = True
            await send(message)

    running = asyncio.get_running_loop().create_task(
        _run(app, scope, patient_receive, guarded_send)
    )
    try:
        await asyncio.wait({running, deadline.expired}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        deadline.end()
    if running.done() or is_answered:
        await running
        return
    is_refused = True
    _left_behind.add(running)
    running.add_done_callback(_forget)
    running.cancel()
    await refuse(scope, receive, send)


async def _run(app: App, scope: HTTPScope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _forget(running: "asyncio.Task[None]") -> None:
    _left_behind.discard(running)
    if not running.cancelled():
        running.exception()  # looked at, or the loop would complain: its caller has been answered

"""A bound on the whole of a request: its parts each keep theirs, and may still add up beyond it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Send

ANSWER_WITHIN_S: Final = 1.9
AUTHENTICATE_WITHIN_S: Final = 0.5
App: TypeAlias = Callable[[HTTPScope, Receive, Send], Awaitable[None]]

_left_behind: Final[set[asyncio.Task[None]]] = set()
"""Requests that were refused and have not ended yet: the loop itself would forget them."""


async def answer_in_time(
    app: App, refuse: App, scope: HTTPScope, receive: Receive, send: Send, *, within_s: float
) -> None:
    """Run `app`; once it has spent `within_s` without an answer, run `refuse` instead.

    Time spent waiting for the client's body does not count: the server bounds that. What is refused is not
    cancelled, because cancelling a query waits for the server that does not answer; it ends by the deadlines
    of its parts, and what it sends is dropped.
    """
    loop = asyncio.get_running_loop()
    expired: asyncio.Future[None] = loop.create_future()
    deadline = loop.time() + within_s
    is_answered = is_refused = False

    def expire() -> None:
        if not expired.done():
            expired.set_result(None)

    timer = loop.call_at(deadline, expire)

    async def patient_receive() -> HTTPReceiveMessage:
        nonlocal deadline, timer
        timer.cancel()
        began = loop.time()
        message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]
        deadline += loop.time() - began
        timer = loop.call_at(deadline, expire)
        return message

    async def guarded_send(message: Message) -> None:
        nonlocal is_answered
        if not is_refused:
            is_answered = True
            await send(message)

    running = loop.create_task(_run(app, scope, patient_receive, guarded_send))
    try:
        await asyncio.wait({running, expired}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    if running.done() or is_answered:
        await running
        return
    is_refused = True
    _left_behind.add(running)
    running.add_done_callback(_forget)
    await refuse(scope, receive, send)


async def _run(app: App, scope: HTTPScope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _forget(running: "asyncio.Task[None]") -> None:
    _left_behind.discard(running)
    if not running.cancelled():
        running.exception()  # looked at, or the loop would complain: its caller has been answered

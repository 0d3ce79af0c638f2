"""Bound the time of a whole request, beside the bounds of its parts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

ANSWER_WITHIN_S: Final = 1.9
AUTHENTICATE_WITHIN_S: Final = 0.5
_KEY: Final = "deadline"
App: TypeAlias = Callable[[HTTPScope, Receive, Send], Awaitable[None]]


class Deadline:
    """Of one request. expire: called once it has spent `within_s`, pauses not counted.

    The timer is left alone by a pause, and looks when it is due whether there was one: most
    requests that have a body have it all when they are read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, within_s: float, expire: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._within_s = within_s
        self._at = loop.time() + within_s
        self._expire: Callable[[], None] | None = expire
        self._paused_at: float | None = None
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._at, self._look)

    def pause(self) -> None:
        """What comes now does not count until `resume`: something else bounds it."""
        self._paused_at = self._loop.time()

    def resume(self) -> None:
        """The time counts again."""
        assert self._paused_at is not None
        self._go_on(self._at + self._loop.time() - self._paused_at)

    def start_anew(self) -> None:
        """The time counts again, and all of it: for a request that pauses any number of times."""
        self._go_on(self._loop.time() + self._within_s)

    def _go_on(self, at: float) -> None:
        self._at = at
        self._paused_at = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._look)

    def end(self) -> None:
        """The request was answered. It knows its deadline, and is not known by it any more:
        what stands in no circle is freed at once, and not by the collector.
        """
        self._expire = None
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._paused_at is not None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._look)
        elif self._expire is not None:
            self._expire()


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
    effect later: one that waits for its turn is left out of it. The client does not wait for the
    cancelled one to end: what it still sends is dropped.
    """
    loop = asyncio.get_running_loop()
    answering = asyncio.current_task(loop)
    assert answering is not None
    is_answered = False
    refusal: asyncio.Task[None] | None = None

    def expire() -> None:
        nonlocal refusal
        if not is_answered:
            refusal = loop.create_task(_run(refuse, scope, receive, send))
            answering.cancel()

    async def patient_receive() -> HTTPReceiveMessage:
        deadline.pause()
        try:
            message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]
        finally:
            deadline.resume()
        return message

    async def guarded_send(message: Message) -> None:
        nonlocal is_answered
        if refusal is None:
            is_answered = True
            await send(message)

    deadline = Deadline(loop, within_s, expire)
    scope["state"][_KEY] = deadline
    try:
        await app(scope, patient_receive, guarded_send)
    except BaseException:
        if refusal is None:
            raise
    finally:
        deadline.end()
    if refusal is not None:
        await refusal


async def _run(app: App, scope: HTTPScope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)

"""The client's side of a proxied exchange: read the request's body, send the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Send

from api.doors.scim.framing import Framing, Unforwardable

BODY_WITHIN_S: Final = 60.0
"""From the first piece of a request's body to the last; each piece has the server's own deadline
besides.
"""


class Answering:
    """The answer to the client, as far as it got."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
        await self._send(start)

    async def go_on(self, piece: bytes, *, is_last: bool) -> None:
        event: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": piece,
            "more_body": not is_last,
        }
        await self._send(event)


class Client:
    """The client's side of one exchange: its body in pieces, whether it is still there,
    whose turn it is.

    deadline: ends the whole exchange. is_taking: it is the client's turn to take what came of the
    answer. has_left: the client hung up. is_answered: the upstream's answer has begun.
    """

    def __init__(
        self, receive: Receive, deadline: asyncio.Timeout, *, idle_s: float, head_s: float
    ) -> None:
        self._receive = receive
        self._deadline = deadline
        self._idle_s = idle_s
        self._head_s = head_s
        self._has_sent_all = asyncio.Event()
        self._is_sending = False
        self.is_taking = False
        self.has_left = False
        self.is_answered = False

    @property
    def is_awaited(self) -> bool:
        """It is the client's turn: to send the rest of its body, or to take what came."""
        return self._is_sending or self.is_taking

    @asynccontextmanager
    async def watched(self, *, has_body: bool) -> AsyncIterator[None]:
        """End the exchange at once when the client leaves: nobody would read the answer."""
        if not has_body:
            self._has_sent_all.set()
            self._grant(self._head_s)
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def body(self, framing: Framing) -> AsyncIterator[bytes]:
        """The request's body; each piece is asked for when the one before was taken.

        Raises Unforwardable where it is not as long as its head says, whatever the server in front
        thinks.
        """
        ends_at, length, piece = asyncio.get_running_loop().time() + BODY_WITHIN_S, 0, b""
        try:
            is_more = True
            while is_more:
                if not self.is_answered:
                    self._end_at(ends_at)
                self._is_sending = True
                message = await self._receive()
                self._is_sending = False
                if message["type"] != "http.request":
                    self._leave()
                    raise ConnectionResetError("the client left")
                is_more = message["more_body"]
                if not self.is_answered:
                    self.grant_idle()
                piece += message["body"]
                length += len(message["body"])
                if framing.kind == "length" and length > framing.length:
                    break
                # What completes the announced length waits for the end: with it, the request is
                # whole.
                if piece and not (
                    is_more and framing.kind == "length" and length == framing.length
                ):
                    yield piece
                    piece = b""
            if framing.kind == "length" and length != framing.length:
                raise Unforwardable(400, "The body is not as long as the request says.")
            if not self.is_answered:
                self._grant(self._head_s)
        finally:
            self._has_sent_all.set()

    def grant_idle(self) -> None:
        """It is the other side's turn; it has as long as one may be idle."""
        self._grant(self._idle_s)

    def _grant(self, timeout_s: float) -> None:
        self._end_at(asyncio.get_running_loop().time() + timeout_s)

    def _end_at(self, when: float) -> None:
        # Once the client has left, nothing puts the end off.
        if not self.has_left and not self._deadline.expired():
            self._deadline.reschedule(when)

    async def _watch(self) -> None:
        await self._has_sent_all.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._grant(0)
        self.has_left = True

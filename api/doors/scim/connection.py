"""One HTTP/1.1 connection to the upstream, for one request at a time.

A client library decides by itself when a connection may be used again, and what it does not look at
(a request body that stopped short, bytes that nobody asked for) is heard as the next request, or
taken for its answer. Here a connection is used again only after an exchange that came to its very
end on both sides.
"""

import asyncio
import select
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import Any, Final, Literal

import httptools

from api.doors.scim import tls
from domain.errors import without_frames

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of an answer, its interim answers included."""
BUFFER_BYTES: Final = 256 * 1024
"""What is held of an answer that the client does not take; beyond, the upstream is not read."""
_INTERIM: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101


class Broken(Exception):
    """The upstream hung up, or what it said is no answer to what was asked."""


_TOO_LONG: Final = "the head of the upstream's answer is too long"
_TOO_MUCH: Final = "the upstream says more than it was asked"


class Answer:
    """The upstream's answer to one request, as it comes in.

    status, headers: once it has begun, names in lower case. has_any: whether a byte of it came.
    """

    def __init__(self, transport: asyncio.Transport, *, is_head: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_any = False
        self._transport = transport
        self._is_head = is_head
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._has_begun = self._is_whole = self._is_kept = self._ends_with_connection = False
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._error: Exception | None = None
        self._has_failed = False
        self._news = asyncio.Event()

    @property
    def is_clean(self) -> bool:
        """Whether it came to its end, said that the connection stays,
        and nothing came behind it.
        """
        return self._is_whole and self._is_kept and not self._has_failed

    @property
    def is_read(self) -> bool:
        """Whether nothing of it is left to read."""
        return self._is_whole and not self._pieces

    async def begin(self) -> None:
        """Wait for status and headers. Raises Broken, and what `fail` was given."""
        while not self._has_begun:
            await self._next_news()

    async def read(self) -> bytes:
        """What came of the body since the last time, empty at its end. Raises as `begin`."""
        while not self._pieces and not self._is_whole:
            await self._next_news()
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        if not self._transport.is_closing():
            self._transport.resume_reading()
        return piece

    async def _next_news(self) -> None:
        if self._has_failed:
            raise self._taken_error()
        self._news.clear()
        await self._news.wait()

    def _taken_error(self) -> Exception:
        """Why it failed, for whoever waits; once raised it has this answer, which lets go of it."""
        error, self._error = self._error, None
        return error or Broken("the upstream's answer failed")

    def feed(self, data: bytes) -> None:
        """What came from the upstream."""
        self.has_any = True
        if not self._has_begun:
            self._head_bytes += len(data)
        if self._parser is None or self._has_failed:
            self.fail(Broken(_TOO_MUCH))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(Broken("what the upstream says is not HTTP/1.1"))
        if not self._has_begun and self._head_bytes > MAX_HEAD_BYTES:
            self.fail(Broken(_TOO_LONG))
        if self._is_whole or self._has_failed:
            self._parser = None  # it has this answer
        self._news.set()

    def end(self, cut_off: str | None = None) -> None:
        """The upstream says no more.

        cut_off: what happened, where it did not say itself that this is the end: a body without a
        length may lack its rest then (RFC 9112 §9.8).
        """
        if self._ends_with_connection and cut_off is None and not self._has_failed:
            self._is_whole = True
        elif not self._is_whole:
            self.fail(Broken(cut_off or "the upstream hung up"))
        self._is_kept = False
        self._parser = None
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Whoever waits for it, waits in vain."""
        if not self._has_failed:
            self._has_failed = True
            self._error = without_frames(error)
        self._news.set()

    # The parser's calls

    def on_message_begin(self) -> None:
        if self._is_whole:  # nobody asked for another answer: whoever asks next must not get it
            self.fail(Broken(_TOO_MUCH))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_begun:  # behind that, trailers, which could pose as headers
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._is_whole:
            return
        self.status = self._parser.get_status_code()
        if sum(map(len, chain.from_iterable(self.headers))) > MAX_HEAD_BYTES:
            self.fail(Broken(_TOO_LONG))
            return
        if self.status in _INTERIM and self.status != _SWITCHING_PROTOCOLS:
            return
        self._has_begun = True
        self._is_kept = self._parser.should_keep_alive()
        names = {name for name, _ in self.headers}
        self._ends_with_connection = not names & {b"content-length", b"transfer-encoding"}
        if self._is_head:  # the parser would wait for the body that it announces
            self._is_whole, self._is_kept = True, False

    def on_body(self, body: bytes) -> None:
        if self._is_whole:
            return
        self._pieces.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > BUFFER_BYTES and not self._transport.is_closing():
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._has_begun:  # an interim answer; the one that counts is to come
            self.headers.clear()
            return
        self._is_whole = True


class Connection(asyncio.Protocol):
    """Made by `loop.create_connection`. made_at: loop time."""

    def __init__(self) -> None:
        self.made_at = asyncio.get_running_loop().time()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_sent = True
        self._can_write = asyncio.Event()
        self._can_write.set()

    @property
    def is_usable(self) -> bool:
        """Whether another request may go over it: the one before came to its end on both sides."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._is_sent
            and (self._answer is None or self._answer.is_clean)
        )

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come that the event loop has not read yet: bytes that nobody asked
        for, or the end of the connection.
        """
        assert self._transport is not None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    @property
    def was_answered(self) -> bool:
        """Whether a byte of an answer came to what was asked last."""
        return self._answer is not None and self._answer.has_any

    async def ask(
        self,
        head: Sequence[bytes],
        body: AsyncIterator[bytes] | None,
        *,
        framing: Literal["length", "chunked"] = "length",
        is_head: bool = False,
    ) -> Answer:
        """Send a request, and return its answer when that begins; the body may still be under way.

        head: its lines. body: its pieces, of exactly the announced length where it is framed by
        that. Raises Broken, and what `body` raises.
        """
        assert self._transport is not None
        if self._transport.is_closing():  # a balancer with nobody behind it accepts and hangs up
            raise Broken("the upstream hung up before it was asked")
        assert self.is_usable
        answer = self._answer = Answer(self._transport, is_head=is_head)
        self._transport.write(b"\r\n".join([*head, b"", b""]))
        if body is not None:
            self._is_sent = False
            self._sending = asyncio.create_task(
                self._send(body, answer, is_chunked=framing == "chunked")
            )
        await answer.begin()
        return answer

    def close(self) -> None:
        """Hang up at once, whatever is under way."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None  # its error will have this connection
        if self._transport is not None:
            self._transport.abort()

    async def _send(self, body: AsyncIterator[bytes], answer: Answer, *, is_chunked: bool) -> None:
        assert self._transport is not None
        try:
            async for piece in body:
                self._transport.write(
                    b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
                )
                await self._can_write.wait()
                if self._transport.is_closing():
                    return
            if is_chunked:
                self._transport.write(b"0\r\n\r\n")
            self._is_sent = True
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the answer
            answer.fail(error)

    # The event loop's calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self.is_usable:  # nobody asked
            self.close()
        else:
            self._answer.feed(data)

    def eof_received(self) -> None:
        assert self._transport is not None
        self._end(None if tls.is_ended(self._transport) else tls.NO_END)

    def connection_lost(self, exc: Exception | None) -> None:
        # Without an error: behind eof_received, or a session of TLS without an end.
        self._end(tls.NO_END if exc is None else tls.told(exc))

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def _end(self, cut_off: str | None) -> None:
        self._can_write.set()
        if self._answer is not None:
            self._answer.end(cut_off)

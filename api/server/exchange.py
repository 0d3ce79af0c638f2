"""One request and its answer, as an application sees them (ASGI 3.0, HTTP connection scope 2.3)."""

import asyncio
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from time import monotonic_ns
from typing import Any, Final, Protocol

import structlog
from litestar.types import ASGIApp, HTTPScope, Message
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from api.http.problems import BROKEN_OFF
from api.server.error_response import STATUS_LINE, failure, log_failure

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_BODY: Final = frozenset({204, 304})
_CLOSE: Final = (b"connection", b"close")
_CRLF: Final = b"\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
_is_name: Final = lru_cache(1024)(re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch)
"""RFC 9110 §5.1: a token."""
_TEXT: Final = bytes({*range(256)} - {*range(9), *range(10, 32), 127})
"""What a value consists of, RFC 9110 §5.5: all but control characters, of which it has the tab."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})

logger = structlog.get_logger()


class Connection(Protocol):
    """Whose request it is. tasks: what the server waits for before it ends."""

    transport: asyncio.Transport
    flow: FlowControl
    tasks: set[asyncio.Task[None]]

    @property
    def default_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Fields of every answer."""

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""

    def end(self) -> None:
        """Close when all has been written."""

    def on_answered(self) -> None:
        """The answer is complete."""


class Exchange:
    """What an application is called with, and what its answer is written by.

    The head of an answer goes out with the first piece of its body: one system call and one packet,
    not two.

    is_keeping_alive: the connection may go on behind the answer. is_waiting_for_continue: the peer
    sends its body when it is told to. is_gone: the peer is; nothing is sent any more.
    is_request_whole: all of the body has come. is_begun, is_answered: the head of the answer was
    given, and all of it. began_at: when the head of the request had come, `monotonic_ns`.
    status: of the answer that has begun. task: that runs it, from before it does.
    """

    __slots__ = (
        "_bell",
        "_body",
        "_connection",
        "_has_news",
        "_head",
        "_is_chunked",
        "_is_for_head",
        "_left",
        "began_at",
        "is_answered",
        "is_begun",
        "is_gone",
        "is_keeping_alive",
        "is_request_whole",
        "is_waiting_for_continue",
        "scope",
        "status",
        "task",
    )
    task: asyncio.Task[None]

    def __init__(
        self,
        connection: Connection,
        scope: HTTPScope,
        *,
        is_keeping_alive: bool,
        is_waiting_for_continue: bool,
    ) -> None:
        self.scope = scope
        self.began_at = monotonic_ns()
        self.status = 0
        self.is_keeping_alive = is_keeping_alive
        self.is_waiting_for_continue = is_waiting_for_continue
        self.is_gone = False
        self.is_request_whole = False
        self.is_begun = False
        self.is_answered = False
        self._connection = connection
        self._body = bytearray()
        self._has_news = False
        self._bell: asyncio.Event | None = None
        self._head = b""
        self._left: int | None = 0
        self._is_chunked = False
        self._is_for_head = scope["method"] == "HEAD"

    # What the connection tells

    def take(self, piece: bytes) -> None:
        """A piece of the request's body."""
        if self.is_answered:
            return
        self._body += piece
        if len(self._body) > HIGH_WATER_LIMIT:
            self._connection.flow.pause_reading()
        self._tell()

    def finish(self) -> None:
        """The request is whole."""
        self.is_request_whole = True
        self.is_waiting_for_continue = False
        self._tell()

    def hang_up(self) -> None:
        """Nothing more comes from the peer, and nothing reaches it."""
        self.is_gone = not self.is_answered
        self._tell()

    def _tell(self) -> None:
        """There is news for who receives; few wait for it, so a bell is made when one does."""
        self._has_news = True
        if self._bell is not None:
            self._bell.set()
            self._bell = None

    # What the application does

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; where it does not: a 500, or the connection's end."""
        try:
            try:
                await app(self.scope, self.receive, self.send)
            except BaseException as error:  # noqa: BLE001 - told as any other fault: no message
                log_failure(error, request_id=self.scope["state"].get("request_id"))
            else:
                if self.is_answered or self.is_gone:
                    return
                if not self.scope["state"].get(BROKEN_OFF):
                    logger.error("request.unanswered")
            if self.is_begun and self._left is None and not self._is_chunked:
                # In order, the end of the connection would pass for that of the body.
                peer = self._connection.transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._connection.transport.abort()
            elif self.is_begun:
                self._write(b"")
                self._connection.end()
            else:
                await self._fail()
        finally:
            self._connection.tasks.discard(self.task)

    async def receive(self) -> Any:
        """The next piece of the request's body;
        at its end, that the peer has gone or is answered.
        """
        if self.is_waiting_for_continue and not self._connection.is_closing():
            self._connection.transport.write(_CONTINUE)
            self.is_waiting_for_continue = False
        if not self.is_gone and not self.is_answered:
            self._connection.flow.resume_reading()
            if not self._has_news:
                self._bell = self._bell or asyncio.Event()
                await self._bell.wait()
            self._has_news = False
        if self.is_gone or self.is_answered:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": not self.is_request_whole}

    async def send(self, message: Message) -> None:
        """Write the head of the answer, or a piece of its body.

        Raises RuntimeError for what is no answer.
        """
        if self.is_gone:
            return
        flow = self._connection.flow
        if flow.write_paused:
            await flow.drain()
            if self.is_gone:
                return
        if self.is_answered:
            raise RuntimeError("the answer was complete already")
        if not self.is_begun:
            if message["type"] != "http.response.start":
                raise RuntimeError("an answer begins with its head")
            self._begin(message["status"], message.get("headers", ()))
        elif message["type"] != "http.response.body":
            raise RuntimeError("an answer goes on with its body")
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.is_begun = True
        self.status = status
        self.is_waiting_for_continue = False
        fields = [*self._connection.default_headers, *headers]
        # HTTP/1.0 has no coding to tell where a body ends (RFC 9112 §6.1): the connection's end is.
        may_chunk = self.scope["http_version"] != "1.0"
        if not may_chunk:
            fields = [field for field in fields if field[0] != b"transfer-encoding"]
        length, says_close = None, False
        for name, value in fields:
            if name in _FRAMING:
                if name == b"content-length":
                    length = int(value)
                elif name == b"connection":
                    says_close |= b"close" in value.lower()
                else:
                    self._is_chunked = True
        is_of_unknown_length = (
            length is None
            and not self._is_chunked
            and status not in _WITHOUT_BODY
            and not self._is_for_head
        )
        if is_of_unknown_length and may_chunk:
            self._is_chunked = True
            fields.append((b"transfer-encoding", b"chunked"))
        if says_close:
            self.is_keeping_alive = False
        elif not self.is_keeping_alive or not (self.is_request_whole or self._is_chunked):
            # The connection ends behind an answer that comes before its request is whole. One of
            # unknown length may flow while the request still does, and common clients hang up at
            # once on that word: that connection ends all the same unless the request becomes whole
            # first.
            fields.append(_CLOSE)
        self._left = None if is_of_unknown_length else length or 0
        self._head = head_of(status, fields)
        if self._is_for_head:
            self._write(b"")

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if self._is_for_head:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (
                b"0\r\n\r\n" if is_last else b""
            )
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise RuntimeError("the answer is not as long as its Content-Length")
        self._write(body)
        if is_last:
            self.is_answered = True
            self._tell()
            if not self.is_keeping_alive:
                self._connection.end()
            self._connection.on_answered()

    def _write(self, data: bytes) -> None:
        """Write, behind the head if that is still held back."""
        if self._head:
            data, self._head = self._head + data, b""
        self._connection.transport.write(data)

    async def _fail(self) -> None:
        fields, body = failure(self.scope["raw_path"], self.scope["state"].get("request_id"))
        start: Any = {"type": "http.response.start", "status": 500, "headers": [*fields, _CLOSE]}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def head_of(status: int, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer. Raises RuntimeError where it would read as another one."""
    if not all(map(_is_name, map(itemgetter(0), fields))):
        raise RuntimeError("the name of a field of the answer is not valid")
    head = _CRLF.join([STATUS_LINE[status], *map(b": ".join, fields), _CRLF])
    # Nothing in it is no text but the ends of our own lines.
    if head.translate(None, _TEXT) != _CRLF * (len(fields) + 2):
        raise RuntimeError("the value of a field of the answer is not valid")
    return head

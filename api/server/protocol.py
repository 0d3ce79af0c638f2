"""HTTP/1.1 as the workers speak it: uvicorn's httptools protocol with its open ends closed.

The stock protocol bounds neither the size of a request head nor the time it may take, lets two Authorization
headers through, puts trailers among the headers, and answers a broken pipelined request before the sound one
that came first. Each of these is refused or repaired here, before the application sees anything.

Peers are judged by what they sent, never quoted: neither answers nor logs hold a byte of a request.
"""

import asyncio
import secrets
from itertools import chain
from typing import Any, ClassVar, Literal

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.scim import messages
from api.server.held_head import HeldHead

_PROBLEMS = {
    400: ("/problems/bad-request", "Bad request"),
    414: ("/problems/uri-too-long", "URI too long"),
    431: ("/problems/header-fields-too-large", "Header fields too large"),
    503: ("/problems/too-many-connections", "Too many connections"),
}
_SCIM = messages.ROOT.encode()


class Refusal(Exception):
    """What the peer is told instead of an answer; the connection ends with it.

    detail: a constant text of ours, never anything the peer sent.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def to_bytes(self, target: bytes = b"") -> bytes:
        """Return the whole response: a SCIM error (RFC 7644) to who speaks SCIM, else a problem (RFC 9457).

        target: of the request, as far as it is known.
        """
        path = target.partition(b"?")[0]
        if path == _SCIM or path.startswith(_SCIM + b"/"):
            media_type, body = messages.MEDIA_TYPE, messages.error(self.status, self.detail)
        else:
            type_, title = _PROBLEMS[self.status]
            media_type = "application/problem+json"
            body = msgspec.json.encode(
                {"type": type_, "title": title, "status": self.status, "detail": self.detail}
            )
        retry_after = b"retry-after: 1\r\n" if self.status == 503 else b""  # noqa: PLR2004
        return (
            b"%scontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n"
            b"cache-control: no-store\r\n%sconnection: close\r\n\r\n%s"
        ) % (
            STATUS_LINE[self.status],
            media_type.encode(),
            len(body),
            secrets.token_hex(16).encode(),
            retry_after,
            body,
        )


class StrictHttpProtocol(HttpToolsProtocol):
    """One connection. The limits are class attributes, so that a deployment or a test may subclass."""

    max_header_bytes: ClassVar[int] = 16 * 1024
    max_headers: ClassVar[int] = 100
    max_target_bytes: ClassVar[int] = 8 * 1024
    max_connections: ClassVar[int] = 2048
    """Per worker."""
    receive_timeout_s: ClassVar[float] = 10.0
    """For a first byte, for a whole request head, and between two pieces of a body."""
    keep_alive_timeout_s: ClassVar[float] = 75.0
    """Longer than the 60 s for which nginx keeps an idle upstream connection, so that it closes first."""
    linger_timeout_s: ClassVar[float] = 1.0
    """How long a refused peer may keep sending, unheard, while it reads the refusal (RFC 9112 §9.6)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase: Literal["idle", "head", "body"] = "idle"
        self._is_deaf = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        # Bytes the parser holds on to, of an unfinished head or of trailers; and those of them in this read.
        self._held_bytes = 0
        self._read_bytes = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.max_connections:
            self._is_deaf = True
            self.transport = transport
            transport.write(Refusal(503, "This server has all the connections it can serve.").to_bytes())
            transport.close()
            return
        super().connection_made(transport)
        self._deadline = self.loop.time() + self.receive_timeout_s
        self._enforce_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _enforce_deadline(self) -> None:
        """Drop a peer that is late. Requests only move the deadline; the timer looks at it now and then."""
        now = self.loop.time()
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self.flow.read_paused or (is_answering and (self.headers is None or self._is_deaf)):
            self._deadline = max(
                self._deadline, now + self.receive_timeout_s
            )  # it is our turn, not the peer's
        if now >= self._deadline:
            self.transport.abort()
        else:
            delay = min(self._deadline - now, self.receive_timeout_s)
            self._timer = self.loop.call_later(delay, self._enforce_deadline)

    # The request. `headers` is a list while a message is being received, and None between two.

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, "This is not valid HTTP."))
        except httptools.HttpParserUpgrade:
            # The request is answered as if it had not asked; what follows it is of no protocol we speak.
            self._is_deaf = True
            self.shutdown()
        else:
            if self.headers is not None:
                self._await_rest()

    def _await_rest(self) -> None:
        """Bound what an unfinished message may hold here, and for how long."""
        self._held_bytes += self._read_bytes
        if self._held_bytes > self.max_target_bytes + self.max_header_bytes:
            self._refuse(self._too_large())
        elif self._phase != "head":  # a body has until its next piece, a head one deadline for all its pieces
            self._deadline = self.loop.time() + self.receive_timeout_s
            if self._phase == "idle":
                self._phase = "head"

    def on_headers_complete(self) -> None:
        self._check_head()
        super().on_headers_complete()
        cycle = self.cycle
        # What is written first must be the head of the answer, and not the last.
        if cycle.scope["method"] != "HEAD" and not cycle.waiting_for_100_continue:
            cycle.transport = HeldHead(self.transport)  # type: ignore[assignment]
        self._phase = "body"
        self._held_bytes = self._read_bytes = 0
        # The application keeps the list it was given; trailers, which could pose as headers, go to this one.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._held_bytes = self._read_bytes = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = "idle"
        self._held_bytes = self._read_bytes = 0
        self.headers = None  # type: ignore[assignment]
        if self.cycle.response_complete:
            self._deadline = self.loop.time() + self.keep_alive_timeout_s

    def on_response_complete(self) -> None:
        """Go on with the connection as the stock method does, without its timer per response."""
        self.server_state.total_requests += 1
        if self.headers is None:
            self._deadline = self.loop.time() + self.keep_alive_timeout_s
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # Refusals

    def _check_head(self) -> None:
        """Raise Refusal for a head that is too large, or that two readers could understand differently.

        The parser itself refuses a second Content-Length, and one together with Transfer-Encoding.
        """
        headers = self.headers
        if len(self.url) > self.max_target_bytes or len(headers) > self.max_headers:
            raise self._too_large()
        # Fields are only added up where the reads that brought them do not show that they are small.
        is_surely_small = 0 < self._held_bytes + self._read_bytes <= self.max_header_bytes
        if not is_surely_small and sum(map(len, chain.from_iterable(headers))) > self.max_header_bytes:
            raise self._too_large()

        fields = dict(headers)
        if len(fields) < len(headers):
            names = [name for name, _ in headers]
            if names.count(b"authorization") > 1:
                raise Refusal(400, "More than one Authorization header.")
            if names.count(b"host") > 1:
                raise Refusal(400, "More than one Host header.")

        version = self.parser.get_http_version()
        if version == "1.1":
            if b"host" not in fields:
                raise Refusal(400, "HTTP/1.1 requires a Host header.")
        elif version != "1.0":
            raise Refusal(400, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        elif b"transfer-encoding" in fields:  # RFC 9112 §6.1: its framing is to be treated as faulty
            raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding.")

    def _too_large(self) -> Refusal:
        if len(self.url) > self.max_target_bytes:
            return Refusal(414, "The request target is too long.")
        return Refusal(431, "The request headers are too large or too many.")

    def _refuse(self, refusal: Refusal) -> None:
        """Hear no more of this peer; tell it why, unless that would pass for the answer to another."""
        self._is_deaf = True
        self.logger.info("Refused a request: %d %s", refusal.status, refusal.detail)
        cycle = self.cycle
        if self._phase == "body":
            cycle.disconnected = True  # the application, waiting for the rest, learns that there is none
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        elif cycle is not None and not cycle.response_complete:
            # Earlier requests are answered first, and the connection ends with the last of these answers.
            self.shutdown()
            return
        self.transport.write(refusal.to_bytes(self.url))
        self.transport.write_eof()
        self.loop.call_later(self.linger_timeout_s, self.transport.abort)

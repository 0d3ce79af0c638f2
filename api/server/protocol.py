"""HTTP/1.1 as the workers speak it (RFC 9112), on the parser of httptools, under a uvicorn server.

uvicorn's own protocol bounds neither the size of a request head nor the time it may take, lets two
Authorization headers through, puts trailers among the headers, answers a broken pipelined request
before the sound one that came first, lets an offer to upgrade decide where a body ends, reads the
rest of a body as the next request, and takes blanks around a field value for a part of it. Here
such a request is refused or repaired before the application sees anything.

Peers are judged by what they sent, never quoted: neither answers nor logs hold a byte of a request.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar, Final, Literal
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from api.server.ambiguous_fields import check_fields, check_target, with_host_of
from api.server.connection_limits import (
    TURNED_AWAY_AT_ONCE,
    ConnectionSlot,
    ConnectionSlots,
    slots_of,
)
from api.server.error_response import Refusal
from api.server.exchange import Exchange
from api.server.unsent_bytes import Unsent
from api.telemetry.instruments import of_state

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}

logger = logging.getLogger("uvicorn.error")


class StrictHttpProtocol(asyncio.Protocol):
    """One connection.

    The limits are class attributes, so that a deployment or a test may subclass.
    """

    max_header_bytes: ClassVar[int] = 16 * 1024
    max_headers: ClassVar[int] = 100
    max_target_bytes: ClassVar[int] = 8 * 1024
    max_waiting: ClassVar[int] = 32
    """Requests of one connection behind the one that is being answered;
    one read may hold 9,000 of them.
    """
    max_connections: ClassVar[int] = 2048
    """Per worker, where its descriptors allow as many."""
    receive_timeout_s: ClassVar[float] = 10.0
    """For a first byte, for a whole request head, and between two pieces of a body."""
    body_timeout_s: ClassVar[float] = 90.0
    """For the whole of a body: a byte now and then must not keep a slot for hours."""
    send_timeout_s: ClassVar[float] = 30.0
    """For a peer that takes nothing of an answer;
    one that takes a little may take as long as it likes.
    """
    keep_alive_timeout_s: ClassVar[float] = 75.0
    """Longer than the 60 s for which nginx keeps an idle upstream connection,
    so that it closes first.
    """
    linger_timeout_s: ClassVar[float] = 2.0
    """For how long a connection that ended for us waits for the peer to end it, or to send on,
    unheard.
    """
    leaving_timeout_s: ClassVar[float] = 0.5
    """For how long one without a request is still heard when the worker leaves."""
    linger_at_most_s: ClassVar[float] = 30.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.connections: set[Any] = server_state.connections
        self.tasks = server_state.tasks
        self._app: Any = config.loaded_app
        self._app_state = app_state
        self._http = of_state(app_state).http
        # Of the connection, from the moment that it is made.
        self.parser = self._new_parser()
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self.client: tuple[str, int] | None = None
        self._server: tuple[str, int | None] | None = None
        self._scheme: Literal["http", "https"] = "http"
        self._slot: ConnectionSlot | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_deaf = False
        self._is_leaving = False
        self._ended_at: float | None = None
        # Of the request that is being received. `headers` is a list meanwhile, and None between
        # two.
        self._phase: Literal["idle", "head", "body"] = "idle"
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] | None = None
        self._body_by: float | None = None
        # Bytes the parser holds on to, of an unfinished head or of trailers; and those of them in
        # this read.
        self._held_bytes = 0
        self._read_bytes = 0
        # The newest request, the one that is being answered, and those between, newest first.
        self._newest: Exchange | None = None
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._not_begun: asyncio.Task[None] | None = None

    @property
    def default_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Fields of every answer, as the server keeps them."""
        return self.server_state.default_headers

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self._server = get_local_addr(transport)
        self._scheme = "https" if is_ssl(transport) else "http"
        self.client = get_remote_addr(transport)
        if self.client is not None and self.client[0].startswith("::ffff:"):
            # An IPv4 peer of a socket for both: it has one name, whatever socket it came by.
            self.client = (self.client[0].removeprefix("::ffff:"), self.client[1])
        self._unsent = Unsent(transport, since=self.loop.time())
        slots = slots_of(self.server_state, most=self.max_connections)
        self._http.connections_max.set(slots.limit)
        self._http.connections.add(1)
        self._slot = slots.take(self, self.client[0] if self.client is not None else "")
        if self._slot is None:
            self._turn_away(slots)
        else:
            self._deadline = self.loop.time() + self.receive_timeout_s
            self._enforce_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connections.add(-1)
        self.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._slot is not None:
            self._slot.leave()
        else:
            slots_of(self.server_state, most=self.max_connections).turned_away.discard(self)
        for exchange in (self._answering, self._newest):
            if exchange is not None:
                exchange.hang_up()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self._waiting.clear()
        # Else only the collector would find them.
        self._newest = self._answering = self._slot = None
        self.parser = None

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself."""

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def shutdown(self) -> None:
        """End after the next answer, or soon where nothing is asked: the worker leaves.

        A gateway sends on while it cannot know. What it has sent on a connection that is closed at
        once is lost, and may have been done for all that it knows (RFC 9112 §9.3.1): so an idle one
        is heard for a moment, and the answer says that it was the last.
        """
        self._is_leaving = True
        if self._newest is None or self._newest.is_answered:
            self._leave_soon()
        elif not self._newest.is_begun:  # else what says so has gone out
            self._newest.is_keeping_alive = False

    def _leave_soon(self) -> None:
        if self.is_closing():
            return
        self._deadline = min(self._deadline, self.loop.time() + self.leaving_timeout_s)
        if self._timer is not None:
            self._timer.cancel()
        self._enforce_deadline()

    def give_way(self) -> None:
        """Leave the slot to a newcomer."""
        assert self._slot is not None
        self._slot.leave()
        self.connections.discard(self)
        self.transport.abort()  # to close would be to wait for what the peer does not take

    def _turn_away(self, slots: ConnectionSlots) -> None:
        self._http.limited.add("connections")
        refusal = Refusal(503, "This server has all the connections it can serve.")
        self._http.refused(503, refusal.request_id)
        self.connections.discard(self)
        self.transport.write(refusal.to_bytes(self.default_headers))
        if len(slots.turned_away) < TURNED_AWAY_AT_ONCE:
            slots.turned_away.add(self)
            self.end()
        else:
            self._is_deaf = True
            self.transport.close()

    def is_closing(self) -> bool:
        return self._ended_at is not None or self.transport.is_closing()

    def end(self) -> None:
        """Say that nothing more comes; hear no more, and hang up when the peer does.

        A socket that is closed while the peer still sends throws away what the peer has not read
        yet: it would never see why (RFC 9112 §9.6).
        """
        if self.is_closing():
            return
        self._ended_at = self.loop.time()
        self._is_deaf = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self._deadline = self._ended_at + self.linger_timeout_s
        if self._slot is not None:
            self._slot.idle()
        if self._timer is not None:
            self._timer.cancel()
        self._enforce_deadline()

    def _enforce_deadline(self) -> None:
        """Drop a peer that is late.

        Requests only move the deadline; the timer looks at it now and then.
        """
        now = self.loop.time()
        is_answering = self._newest is not None and not self._newest.is_answered
        if self._unsent.is_any(now):
            # It takes our answer at its own pace, but for the one that takes nothing.
            is_late = now >= self._unsent.since + self.send_timeout_s
            self._deadline = max(self._deadline, now + self.linger_timeout_s)
        else:
            if self._ended_at is None and (
                self.flow.read_paused or (is_answering and (self.headers is None or self._is_deaf))
            ):
                # It is our turn, not the peer's.
                self._deadline = max(self._deadline, now + self.receive_timeout_s)
            is_late = now >= self._deadline
        if is_late:
            self.transport.abort()
        else:
            delay = min(max(self._deadline - now, 0.01), self.receive_timeout_s)
            self._timer = self.loop.call_later(delay, self._enforce_deadline)

    # The request

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            if self._ended_at is not None:
                until = min(
                    self.loop.time() + self.linger_timeout_s, self._ended_at + self.linger_at_most_s
                )
                self._deadline = max(self._deadline, until)
            return
        self._read_bytes = len(data)
        self._not_begun = None
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_refusal_in(error))
        else:
            if self.headers is not None:
                self._await_rest()

    def _parse(self, data: bytes) -> None:
        """Hand the parser what came.

        Behind a head that offers to upgrade it expects another protocol and no body, whatever
        length that head declares. We accept no offer (RFC 9110 §7.8), so a new parser reads the
        head without it: the body is framed by RFC 9112 §6 as any other, and refused as any other.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = memoryview(rest)[offer.args[0] :]
            else:
                return
            plain_head = self._without_offer()
            self.parser = self._new_parser()
            self.parser.feed_data(plain_head)

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # What comes behind a request that ends the connection is no error of that one.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _without_offer(self) -> bytes:
        """The head that was just read, as it would be had the peer offered nothing."""
        request_line = b"%s %s HTTP/%s\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        assert self.headers is not None
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"".join([request_line, *fields, b"\r\n"])

    def _await_rest(self) -> None:
        """Bound what an unfinished message may hold here, and for how long."""
        self._held_bytes += self._read_bytes
        if self._held_bytes > self.max_target_bytes + self.max_header_bytes:
            self._refuse(self._too_large())
        elif (
            self._phase != "head"
        ):  # a body has until its next piece, a head one deadline for all its pieces
            now = self.loop.time()
            self._deadline = now + self.receive_timeout_s
            if self._phase == "idle":
                self._phase = "head"
            else:
                self._body_by = self._body_by or now + self.body_timeout_s
                self._deadline = min(self._deadline, self._body_by)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # White space around a value is no part of it (RFC 9110 §5.5).
        self.headers.append((name.lower(), value.strip(b" \t")))  # type: ignore[union-attr]

    def on_headers_complete(self) -> None:
        parser = self.parser
        method = parser.get_method()
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise Refusal(400, "CONNECT is for proxies; this is none.")
            return  # the same head comes again, without the offer
        if len(self._waiting) >= self.max_waiting:
            self._http.limited.add("pipeline")
            raise Refusal(503, "Too many requests wait on this connection.")
        version = parser.get_http_version()
        is_waiting_for_continue = self._check_head(version)
        if not self.url.startswith(b"/"):
            self.headers = with_host_of(self.url, self.headers or ())
        exchange = Exchange(
            self,
            self._scope(method, version),
            is_keeping_alive=not self._is_leaving
            and version != "1.0"
            and parser.should_keep_alive(),
            is_waiting_for_continue=is_waiting_for_continue,
        )
        before, self._newest = self._newest, exchange
        if before is None or before.is_answered:
            self._answer(exchange)
        else:
            self.flow.pause_reading()
            self._waiting.appendleft(exchange)
        assert self._slot is not None
        self._slot.busy()
        self._phase = "body"
        self._held_bytes = self._read_bytes = 0
        # The application keeps the list it was given; trailers, which could pose as headers, go to
        # this one.
        self.headers = []

    def _scope(self, method: bytes, version: str) -> Any:
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": self._scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "root_path": "",
            "headers": self.headers,
            "server": self._server,
            "client": self.client,
            "state": self._app_state.copy(),
        }

    def on_body(self, body: bytes) -> None:
        self._newest.take(body)  # type: ignore[union-attr]
        self._held_bytes = self._read_bytes = 0

    def on_message_complete(self) -> None:
        if self._phase != "body":  # the head that comes again
            return
        self._newest.finish()  # type: ignore[union-attr]
        self._phase, self._body_by = "idle", None
        self._held_bytes = self._read_bytes = 0
        self.headers = None

    def _answer(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._not_begun = exchange.task = self.loop.create_task(exchange.run(self._app))
        self.tasks.add(exchange.task)

    def on_answered(self) -> None:
        """Go on with the connection, or end it, behind an answer."""
        self.server_state.total_requests += 1
        answered = self._answering
        assert answered is not None
        self._http.answered(answered.scope, answered.status, answered.began_at)
        if self.is_closing():
            return
        if self._phase == "body" and self._newest is not None and self._newest.is_answered:
            # The request is not whole. The peer may send the rest or not (a gateway that copies
            # Content-Length sends none), and nobody could tell it from the next request (RFC 9112
            # §9.3).
            self.end()
            return
        if self.headers is None:
            self._deadline = self.loop.time() + self.keep_alive_timeout_s
        self.flow.resume_reading()
        if self._waiting:
            self._answer(self._waiting.pop())
        elif self._is_deaf:
            self.end()  # what came behind was refused
        else:
            assert self._slot is not None
            self._slot.idle()
            if self._is_leaving:
                self._leave_soon()

    # Refusals

    def _check_head(self, version: str) -> bool:
        """Raise Refusal for a head that is too large,
        or that two readers could understand differently.

        Return whether the peer waits for a word before it sends its body.
        """
        headers = self.headers
        assert headers is not None
        check_target(self.url)
        if len(self.url) > self.max_target_bytes or len(headers) > self.max_headers:
            raise self._too_large()
        # Fields are only added up where the reads that brought them do not show that they are
        # small.
        is_surely_small = 0 < self._held_bytes + self._read_bytes <= self.max_header_bytes
        if (
            not is_surely_small
            and sum(map(len, chain.from_iterable(headers))) > self.max_header_bytes
        ):
            raise self._too_large()
        expected = check_fields(headers, version).get(b"expect")
        # HTTP/1.0 knows no 100 (RFC 9110 §10.1.1).
        return expected is not None and expected.lower() == b"100-continue" and version != "1.0"

    def _too_large(self) -> Refusal:
        self._http.limited.add("message_size")
        if len(self.url) > self.max_target_bytes:
            return Refusal(414, "The request target is too long.")
        return Refusal(431, "The request headers are too large or too many.")

    def _refuse(self, refusal: Refusal) -> None:
        """Hear no more of this peer; tell it why,
        unless that would pass for the answer to another.
        """
        self._is_deaf = True
        self._http.refused(refusal.status, refusal.request_id)
        logger.info("Refused a request: %d %s", refusal.status, refusal.detail)
        newest = self._newest
        if self._phase == "body":
            assert newest is not None
            newest.hang_up()  # the application, waiting for the rest, learns that there is none
            if self._waiting:
                self._waiting.popleft()  # those before it are answered first
                return
            if self._not_begun is not None:
                self._not_begun.cancel()  # what is refused has no effect
                self.tasks.discard(self._not_begun)
                self._not_begun = None
                del newest.task  # it is going to hold an error, and that its exchange
            if not newest.is_begun:
                self.transport.write(refusal.to_bytes(self.default_headers, self.url))
        elif newest is not None and not newest.is_answered:
            # Earlier requests are answered first, and the connection ends with the last of these
            # answers.
            self.shutdown()
            return
        else:
            self.transport.write(refusal.to_bytes(self.default_headers, self.url))
        self.end()


def _refusal_in(error: httptools.HttpParserError) -> Refusal:
    """What we raised in one of the parser's calls, or its own error.

    Not looked at where it is caught: that frame is among the refusal's own.
    """
    cause = error.__context__
    return cause if isinstance(cause, Refusal) else Refusal(400, "This is not valid HTTP.")

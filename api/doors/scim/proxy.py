"""The streaming reverse proxy behind `/scim/v2`: it forwards authenticated requests upstream.

A request goes on as its own parts: a method of SCIM, a path below the upstream's own (`target.py`),
headers from end to end, and a body whose length is counted here. Bodies pass in pieces, both ways;
neither side is read faster than the other one takes it, and they are never looked at: links inside
them are the upstream's, made from X-Forwarded-Proto, -Host and -Prefix if it cares. Its own address
in a Location becomes ours (`location.py`). Redirects are passed on, never followed.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, HTTPScope, Receive, Send

from api.doors import scim_messages
from api.doors.client_address import ClientSources
from api.doors.scim.connection import Answer, Broken, Connection
from api.doors.scim.location import UpstreamAddress, public_origin
from api.doors.scim.pool import MAX_CONNECTIONS, NoPlace, Origin, Places, Pool, ShareTaken
from api.doors.scim.target import PLAINLY, NotPlain, below_root
from api.doors.scim_messages import ROOT
from api.http.asgi_answer import respond, stamp
from api.settings import Settings

__all__ = ["MAX_CONNECTIONS", "METHODS", "Upstream"]

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
BODY_WITHIN_S: Final = 60.0
"""From the first piece of a request's body to the last;
each piece has the server's own deadline besides.
"""
RETRY_AFTER_S: Final = 1

_EXPECTING_A_BODY: Final = frozenset({"PATCH", "POST", "PUT"})
"""Without a body they say so (RFC 9110 §8.6): some servers answer 411 otherwise."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
"""RFC 9110 §7.6.1. Trailers could pose as headers; the server in front drops them."""
_REPLACED: Final = frozenset(
    b"content-length expect forwarded host via x-real-ip x-request-id".split()
)
"""Of a request: set anew here, or answered by us (Expect)."""
_OURS: Final = (b"x-scim-", b"x-forwarded-")
_BODILESS: Final = frozenset({204, 304})
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Unforwardable(Exception):
    """The request cannot go on as it is. status, detail, headers: for the client."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class BadAnswer(Exception):
    """The upstream's answer is not one that could be passed on."""


class Framing(NamedTuple):
    """How long a request's body is (RFC 9112 §6).

    length: in bytes, where it is known beforehand.
    """

    kind: Literal["none", "length", "chunked"]
    length: int = 0


class Upstream:
    """The SCIM service of the settings, with a pool of connections of this process."""

    def __init__(self, settings: Settings, sources: ClientSources) -> None:
        assert settings.scim_upstream_url is not None
        base = settings.scim_upstream_url.rstrip("/")
        address = urlsplit(base)
        assert address.hostname is not None
        is_tls = address.scheme == "https"
        origin = Origin(is_tls, address.hostname, address.port or (443 if is_tls else 80))
        self._host = address.netloc.encode()
        self._path = address.path.encode()
        # An upstream that puts the prefix before its own path gets ours, where ours ends as its
        # does.
        self._prefix = ROOT.removesuffix(address.path).encode()
        self._own_address = UpstreamAddress(base)
        self._sources = sources
        self._forwards_authorization = settings.forward_authorization
        self._head_timeout_s = settings.upstream_head_timeout_s
        self._idle_timeout_s = settings.upstream_idle_timeout_s
        self._places = Places()
        self._pool = Pool(origin, connect_timeout_s=settings.upstream_connect_timeout_s)

    async def forward(
        self,
        scope: HTTPScope,
        receive: Receive,
        send: Send,
        identity: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """Answer an authenticated request with what the upstream says.

        identity: its headers, all of them.
        """
        deadline = asyncio.timeout(None)
        client = _Client(
            receive, deadline, idle_s=self._idle_timeout_s, head_s=self._head_timeout_s
        )
        answering = _Answering(send)
        failure: tuple[int, str, Mapping[str, str]]
        try:
            head, framing = self._head(scope, identity), _framing(scope)
            async with (
                self._places.taken(dict(identity)[b"x-scim-token-id"]),
                deadline,
                client.watched(has_body=framing.kind != "none"),
            ):
                await self._exchange(head, framing, scope, client, answering)
        except Unforwardable as error:
            failure = error.status, error.detail, error.headers
        except NotPlain:
            failure = 400, PLAINLY, {}
        except ShareTaken:
            detail = "This token has too many requests under way. Wait, then try again."
            failure = 429, detail, {"Retry-After": str(RETRY_AFTER_S)}
        except NoPlace:
            detail = "There are too many requests under way. Wait, then try again."
            failure = 503, detail, {"Retry-After": str(RETRY_AFTER_S)}
        except TimeoutError:
            if client.is_awaited:
                failure = 408, "The request took too long to arrive.", {}
            else:
                failure = 504, "The SCIM service behind this address did not answer in time.", {}
        except (Broken, OSError, BadAnswer):
            failure = 502, "The SCIM service behind this address cannot be reached.", {}
        else:
            return
        if answering.has_begun or client.has_left:
            # the server closes the connection: an answer that stops short must not look whole
            return
        status, detail, more = failure
        body = scim_messages.error(status, detail)
        await respond(
            send, scope, status=status, media_type=scim_messages.MEDIA_TYPE, body=body, headers=more
        )

    async def aclose(self) -> None:
        """Close the idle connections; there are no others when the server has stopped."""
        self._pool.close()

    # What goes out

    def _head(self, scope: HTTPScope, identity: Headers) -> list[bytes]:
        """Request line and header lines. Raises Unforwardable, NotPlain."""
        if scope["method"] not in METHODS:
            raise Unforwardable(405, "This method is not one of SCIM.", Allow=", ".join(METHODS))
        target = (self._path + below_root(scope)) or b"/"
        if target.startswith(b"//"):  # it would be read as a host
            raise NotPlain
        query = scope["query_string"]
        request_line = b"%s %s%s HTTP/1.1" % (
            scope["method"].encode(),
            target,
            b"?" + query if query else b"",
        )
        lines = [request_line, b"host: " + self._host]
        for name, value in (*self._passed_on(scope), *identity, *self._told(scope)):
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise Unforwardable(400, "A header cannot be passed on as it is.")
            lines.append(b"%s: %s" % (name, value))
        return lines

    def _passed_on(self, scope: HTTPScope) -> Iterable[tuple[bytes, bytes]]:
        """The client's headers from end to end, and the framing of its body."""
        dropped = _HOP_BY_HOP | _REPLACED | _named_by_connection(scope["headers"])
        if not self._forwards_authorization:
            dropped |= {b"authorization"}
        for name, value in scope["headers"]:
            # Behind CGI and WSGI, X_Scim_Team_Id and X-Scim-Team-Id are one header.
            folded = name.replace(b"_", b"-")
            if folded not in dropped and not folded.startswith(_OURS):
                yield name, value
        framing = _framing(scope)
        if framing.kind == "chunked":
            yield b"transfer-encoding", b"chunked"
        elif framing.kind == "length":
            yield b"content-length", b"%d" % framing.length
        elif scope["method"] in _EXPECTING_A_BODY:
            yield b"content-length", b"0"

    def _told(self, scope: HTTPScope) -> Iterable[tuple[bytes, bytes]]:
        """What the upstream is told about the client and the way to us."""
        via = [value for name, value in scope["headers"] if name == b"via"]
        yield b"via", b", ".join([*via, f"{scope['http_version']} scim-ledger".encode()])
        yield b"x-request-id", scope["state"]["request_id"].encode()
        origin = self._sources.origin(scope)
        yield b"x-forwarded-proto", origin.scheme.encode()
        if origin.address is not None:
            yield b"x-forwarded-for", origin.address.encode()
        if origin.host is not None:
            yield b"x-forwarded-host", origin.host.encode("latin-1")
        if self._prefix:
            yield b"x-forwarded-prefix", self._prefix

    # The exchange

    async def _exchange(
        self,
        head: Sequence[bytes],
        framing: Framing,
        scope: HTTPScope,
        client: "_Client",
        answering: "_Answering",
    ) -> None:
        connection, answer = await self._ask(head, framing, scope, client)
        try:
            await self._relay(answer, scope, client, answering)
        finally:
            self._pool.give_back(connection)

    async def _ask(
        self, head: Sequence[bytes], framing: Framing, scope: HTTPScope, client: "_Client"
    ) -> tuple[Connection, Answer]:
        """Ask over a connection that was kept, if there is one.

        Where that turns out to have been closed meanwhile, whatever is safe to ask twice goes over
        a new one.
        """
        is_head = scope["method"] == "HEAD"
        body = None if framing.kind == "none" else client.body(framing)
        kind: Literal["length", "chunked"] = "chunked" if framing.kind == "chunked" else "length"
        connection = self._pool.kept()
        if connection is not None:
            try:
                return connection, await connection.ask(head, body, framing=kind, is_head=is_head)
            except Broken:
                connection.close()
                if body is not None or scope["method"] not in _SAFE or connection.was_answered:
                    raise
            except BaseException:
                connection.close()
                raise
        connection = await self._pool.fresh()
        try:
            return connection, await connection.ask(head, body, framing=kind, is_head=is_head)
        except BaseException:
            connection.close()
            raise

    async def _relay(
        self, answer: Answer, scope: HTTPScope, client: "_Client", answering: "_Answering"
    ) -> None:
        if not 200 <= answer.status <= 599:  # noqa: PLR2004 - 101 would be another protocol, 600 is none
            raise BadAnswer
        client.is_answered = True
        is_bodiless = scope["method"] == "HEAD" or answer.status in _BODILESS
        await answering.begin(answer.status, self._response_headers(answer, scope))
        is_last = is_bodiless
        while not is_last:
            client.grant_idle()
            piece = await answer.read()
            is_last = not piece or answer.is_read
            client.grant_idle()
            await answering.go_on(piece, is_last=is_last)
        if is_bodiless:
            await answering.go_on(b"", is_last=True)

    def _response_headers(self, answer: Answer, scope: HTTPScope) -> list[tuple[bytes, bytes]]:
        """What of the answer's head is passed on.

        Raises BadAnswer on what is no header, and on a coding.
        """
        names = {name for name, _ in answer.headers}
        codings = [value.lower() for name, value in answer.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            # any other is dropped here, and the body would go on coded
            raise BadAnswer
        dropped = _HOP_BY_HOP | {b"date", b"x-request-id"} | _named_by_connection(answer.headers)
        if answer.status in _BODILESS or b"transfer-encoding" in names:
            dropped |= {b"content-length"}
        headers = []
        for name, value in answer.headers:
            if name in dropped:
                continue
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise BadAnswer
            is_address = name in {b"location", b"content-location"}
            headers.append((name, self._our_address(value, scope) if is_address else value))
        return [*headers, stamp(scope)]

    def _our_address(self, value: bytes, scope: HTTPScope) -> bytes:
        origin = self._sources.origin(scope)
        public = public_origin(origin.scheme, origin.host)
        return self._own_address.made_ours(
            value, asked=scope["raw_path"].decode("ascii"), public=public
        )


class _Answering:
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


class _Client:
    """The client's side of one exchange: its body in pieces, whether it is still there,
    whose turn it is.

    deadline: ends the whole exchange. is_awaited: it is the client's turn, to send the rest of its
    body. has_left: the client hung up. is_answered: the upstream's answer has begun.
    """

    def __init__(
        self, receive: Receive, deadline: asyncio.Timeout, *, idle_s: float, head_s: float
    ) -> None:
        self._receive = receive
        self._deadline = deadline
        self._idle_s = idle_s
        self._head_s = head_s
        self._has_sent_all = asyncio.Event()
        self.is_awaited = False
        self.has_left = False
        self.is_answered = False

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
                self.is_awaited = True
                message = await self._receive()
                self.is_awaited = False
                if message["type"] != "http.request":
                    self.has_left = True
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
        self._grant(0)
        self.has_left = True


def _framing(scope: HTTPScope) -> Framing:
    """How the request's head says that its body is framed.

    Raises Unforwardable on what we do not speak.
    """
    headers = scope["headers"]
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [
        coding.strip().lower()
        for name, value in headers
        if name == b"transfer-encoding"
        for coding in value.split(b",")
    ]
    if codings and codings != [b"chunked"]:
        raise Unforwardable(501, "No transfer coding but chunked is understood here.")
    if len(lengths) + len(codings) > 1 or not all(length.isdigit() for length in lengths):
        raise Unforwardable(400, "The length of the body is not clear.")
    if codings:
        return Framing("chunked")
    if lengths and int(lengths[0]):
        return Framing("length", int(lengths[0]))
    return Framing("none")


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The fields that the sender meant for the next hop alone."""
    return frozenset(
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )

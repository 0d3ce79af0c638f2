"""The streaming reverse proxy behind `/scim/v2`: authenticated requests go on to the SCIM service upstream.

Bodies pass in pieces, both ways; neither side is read faster than the other one takes it. They are never
looked at: links inside them are the upstream's, made from X-Forwarded-Host and X-Forwarded-Proto if it cares.
A Location that names the upstream's own address is rewritten to ours (RFC 9110 §10.2.2 allows a reference
without a host), so that nobody is sent around the authentication. Redirects are passed on, never followed.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, HTTPScope, Receive, Send
from yarl import URL

from api.asgi import respond
from api.scim import messages
from api.scim.messages import ROOT
from api.settings import Settings
from api.source import ClientSources

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MAX_CONNECTIONS: Final = 100
"""To the upstream, per worker."""
KEEP_ALIVE_S: Final = 4.0
"""Less than the 5 s after which common servers close an idle connection, so that we close first."""
RETRY_AFTER_S: Final = 1

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""RFC 9110 §7.6.1. Trailers could pose as headers; the server in front drops them."""
_REPLACED: Final = frozenset(b"content-length expect forwarded host via x-real-ip x-request-id".split())
"""Of a request: set anew here, or answered by us (Expect)."""
_OURS: Final = (b"x-scim-", b"x-forwarded-")
_BODILESS: Final = frozenset({204, 304})
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Unforwardable(Exception):
    """The request cannot go on as it is. status: a 4xx; detail: for the client."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class BadAnswer(Exception):
    """The upstream's answer is not one that could be passed on."""


class Upstream:
    """The SCIM service of the settings, with a pool of connections of this process."""

    def __init__(self, settings: Settings, sources: ClientSources) -> None:
        assert settings.scim_upstream_url is not None
        self._base = settings.scim_upstream_url.rstrip("/")
        self._own_address = _below(self._base)
        self._sources = sources
        self._forwards_authorization = settings.forward_authorization
        self._connect_timeout_s = settings.upstream_connect_timeout_s
        self._head_timeout_s = settings.upstream_head_timeout_s
        self._idle_timeout_s = settings.upstream_idle_timeout_s
        self._opened: aiohttp.ClientSession | None = None

    async def forward(
        self, scope: HTTPScope, receive: Receive, send: Send, identity: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Answer an authenticated request with what the upstream says. identity: its headers, all of them."""
        deadline = asyncio.timeout(None)
        client = _Client(receive, deadline, idle_s=self._idle_timeout_s, head_s=self._head_timeout_s)
        answering = _Answering(send)
        failure: tuple[int, str, Mapping[str, str]]
        try:
            url, headers = self._url(scope), self._request_headers(scope, identity)
            async with deadline, client.watched(has_body=_has_body(scope)):
                await self._exchange(url, headers, scope, client, answering)
        except Unforwardable as error:
            failure = error.status, error.detail, error.headers
        except TimeoutError:
            failure = 504, "The SCIM service behind this address did not answer in time.", {}
        except (aiohttp.ClientError, OSError, BadAnswer):
            failure = 502, "The SCIM service behind this address cannot be reached.", {}
        except ValueError:  # of the client library, about what it is to send
            failure = 400, "The request cannot be passed on as it is.", {}
        else:
            return
        if answering.has_begun or client.has_left:
            return  # the server closes the connection: an answer that stops short must not look whole
        status, detail, more = failure
        body = messages.error(status, detail)
        await respond(send, scope, status=status, media_type=messages.MEDIA_TYPE, body=body, headers=more)

    async def aclose(self) -> None:
        """Close the idle connections; there are no others when the server has stopped."""
        if self._opened is not None:
            await self._opened.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._connect_timeout_s, sock_connect=self._connect_timeout_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        return self._opened

    def _url(self, scope: HTTPScope) -> URL:
        """The upstream's address of what was asked for. Raises Unforwardable."""
        if scope["method"] not in METHODS:
            raise Unforwardable(405, "This method is not one of SCIM.", Allow=", ".join(METHODS))
        raw_path, query = scope["raw_path"], scope["query_string"]
        is_plain = raw_path.startswith(ROOT.encode()) and raw_path.isascii() and query.isascii()
        # Also where a dot is written as %2e or a slash as %2f: no way out of the upstream's own path.
        steps = re.split(r"[/\\]", scope["path"])
        if not is_plain or "." in steps or ".." in steps:
            raise Unforwardable(400, "The address must be written plainly, without . and .. steps.")
        target = self._base + raw_path.decode().removeprefix(ROOT)
        return URL(f"{target}?{query.decode()}" if query else target, encoded=True)

    def _request_headers(
        self, scope: HTTPScope, identity: Sequence[tuple[bytes, bytes]]
    ) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = []
        dropped = _HOP_BY_HOP | _REPLACED | _named_by_connection(scope["headers"])
        if not self._forwards_authorization:
            dropped |= {b"authorization"}
        for name, value in scope["headers"]:
            # Behind CGI and WSGI, X_Scim_Team_Id and X-Scim-Team-Id are one header.
            folded = name.replace(b"_", b"-")
            if folded not in dropped and not folded.startswith(_OURS):
                headers.append((name.decode("latin-1"), _text(value)))
            elif name == b"content-length" and value != b"0":
                headers.append(("Content-Length", _text(value)))
        headers += [(name.decode(), value.decode()) for name, value in identity]
        via = [value.decode("latin-1") for name, value in scope["headers"] if name == b"via"]
        headers.append(("Via", ", ".join([*via, f"{scope['http_version']} scim-ledger"])))
        headers.append(("X-Request-Id", scope["state"]["request_id"]))
        origin = self._sources.origin(scope)
        headers.append(("X-Forwarded-Proto", origin.scheme))
        if origin.address is not None:
            headers.append(("X-Forwarded-For", origin.address))
        if origin.host is not None:
            headers.append(("X-Forwarded-Host", origin.host))
        return headers

    async def _exchange(
        self,
        url: URL,
        headers: list[tuple[str, str]],
        scope: HTTPScope,
        client: "_Client",
        answering: "_Answering",
    ) -> None:
        body = client.body() if _has_body(scope) else None
        answer = await self._session().request(
            scope["method"], url, headers=headers, data=body, allow_redirects=False
        )
        try:
            await self._relay(answer, scope, client, answering)
        finally:
            answer.close()  # a connection whose answer was read to its end is back in the pool by now

    async def _relay(
        self, answer: aiohttp.ClientResponse, scope: HTTPScope, client: "_Client", answering: "_Answering"
    ) -> None:
        if not 200 <= answer.status <= 599:  # noqa: PLR2004 - 101 would be another protocol, 600 is none
            raise BadAnswer
        client.is_answered = True
        is_bodiless = scope["method"] == "HEAD" or answer.status in _BODILESS
        await answering.begin(answer.status, self._response_headers(answer))
        is_last = is_bodiless
        while not is_last:
            client.grant_idle()
            piece = await answer.content.readany()
            is_last = not piece or answer.content.at_eof()
            client.grant_idle()
            await answering.go_on(piece, is_last=is_last)
        if is_bodiless:
            await answering.go_on(b"", is_last=True)

    def _response_headers(self, answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
        """What of the answer's head is passed on. Raises BadAnswer on what is no header."""
        found = [(name.lower(), value) for name, value in answer.raw_headers]
        names = {name for name, _ in found}
        dropped = _HOP_BY_HOP | {b"date", b"x-request-id"} | _named_by_connection(found)
        if answer.status in _BODILESS or b"transfer-encoding" in names:
            dropped |= {b"content-length"}
        headers = []
        for name, value in found:
            if name in dropped:
                continue
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise BadAnswer
            is_address = name in {b"location", b"content-location"}
            headers.append((name, self._our_address(value) if is_address else value))
        return headers

    def _our_address(self, value: bytes) -> bytes:
        """An address below the upstream's as one below ours; any other as it is."""
        return self._own_address.sub(ROOT.encode(), value)


class _Answering:
    """The answer to the client, as far as it got."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        start: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": headers}
        await self._send(start)

    async def go_on(self, piece: bytes, *, is_last: bool) -> None:
        event: HTTPResponseBodyEvent = {"type": "http.response.body", "body": piece, "more_body": not is_last}
        await self._send(event)


class _Client:
    """The client's side of one exchange: its body in pieces, whether it is still there, whose turn it is.

    deadline: ends the whole exchange. While the client has the turn it is off: the server in front bounds how
    late a client may be. has_left: the client hung up. is_answered: the upstream's answer has begun.
    """

    def __init__(self, receive: Receive, deadline: asyncio.Timeout, *, idle_s: float, head_s: float) -> None:
        self._receive = receive
        self._deadline = deadline
        self._idle_s = idle_s
        self._head_s = head_s
        self._has_sent_all = asyncio.Event()
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

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body; each piece is asked for when the one before was taken."""
        try:
            is_more = True
            while is_more:
                if not self.is_answered:
                    self._end_at(None)
                message = await self._receive()
                if message["type"] != "http.request":
                    self.has_left = True
                    raise ConnectionResetError("the client left")
                is_more = message["more_body"]
                if not self.is_answered:
                    self.grant_idle()
                if message["body"]:
                    yield message["body"]
            if not self.is_answered:
                self._grant(self._head_s)
        finally:
            self._has_sent_all.set()

    def grant_idle(self) -> None:
        """It is the other side's turn; it has as long as one may be idle."""
        self._grant(self._idle_s)

    def _grant(self, timeout_s: float) -> None:
        self._end_at(asyncio.get_running_loop().time() + timeout_s)

    def _end_at(self, when: float | None) -> None:
        # Once the client has left, nothing puts the end off.
        if not self.has_left and not self._deadline.expired():
            self._deadline.reschedule(when)

    async def _watch(self) -> None:
        await self._has_sent_all.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._grant(0)
        self.has_left = True


def _below(base: str) -> re.Pattern[bytes]:
    """What an address below `base` begins with, written with its host or without."""
    path = urlsplit(base).path
    without_host = rf"{re.escape(path)}(?=[/?#]|\Z)" if path else r"(?=/(?!/))"
    return re.compile(rf"\A(?:{re.escape(base)}(?=[/?#]|\Z)|{without_host})".encode())


def _has_body(scope: HTTPScope) -> bool:
    """RFC 9112 §6: a request has a body when its head says how long it is."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The fields that the sender meant for the next hop alone."""
    return frozenset(
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )


def _text(value: bytes) -> str:
    """A field value as the client library takes it, which writes UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")

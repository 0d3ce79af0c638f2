"""ASGI middleware: the SCIM token ledger in front of your SCIM application.

Copy it; standard library only.

    app = ScimLedgerMiddleware(app, "http://127.0.0.1:8080")

Every request is asked about at the ledger's /gateway/forward. Only its 200 lets one through:
without the token, with the ledger's X-Scim-Team-Id, X-Scim-Token-Id and X-Scim-Use-Id, and without
any header of the client that has "scim" in its name. Its 401, 403, 429 and 503 go to the client as
they are, and so do 400, 414 and 431: it cannot read what the client sent. Everything else, and
silence, is 503. WebSockets are refused. It needs an asyncio server, such as uvicorn or hypercorn,
and opens one connection to the ledger per request.
"""

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any, cast
from urllib.parse import quote, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

IDENTITY = ("x-scim-team-id", "x-scim-token-id", "x-scim-use-id")
ANSWERED = (400, 401, 403, 414, 429, 431, 503)
KEPT = ("content-type", "www-authenticate", "retry-after", "cache-control")
ANSWER_MAX_BYTES = 65_536
UNAVAILABLE_HEADERS = [(b"content-type", b"application/scim+json"), (b"retry-after", b"1")]
UNAVAILABLE_BODY = (
    b'{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"503",'
    b'"detail":"The token cannot be checked right now. Try again."}'
)


class ScimLedgerMiddleware:
    """app: your application. ledger_url: of the ledger. timeout_s: for its whole answer."""

    def __init__(self, app: Application, ledger_url: str, *, timeout_s: float = 2.0) -> None:
        self._app = app
        self._url = urlsplit(ledger_url)
        self._timeout_s = timeout_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": f"{scope['type']}.close", "code": 1008})
            return
        try:
            answer = await asyncio.wait_for(self._ask(scope), self._timeout_s)
        except Exception:  # noqa: BLE001 - whatever went wrong, nobody gets in
            await _refuse(scope, send, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)
            return
        identity = [
            (name.encode(), answer.getheader(name, "").encode("latin-1")) for name in IDENTITY
        ]
        if answer.status == HTTPStatus.OK and all(value for _, value in identity):
            await self._app(
                {**scope, "headers": [*_cleaned(scope["headers"]), *identity]}, receive, send
            )
        elif answer.status in ANSWERED:
            kept = [
                (name.encode(), value.encode("latin-1"))
                for name in KEPT
                if (value := answer.getheader(name))
            ]
            await _refuse(scope, send, answer.status, kept, answer.read())
        else:
            await _refuse(scope, send, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)

    async def _ask(self, scope: Message) -> HTTPResponse:
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        question: Headers = [
            (b"host", self._url.netloc.rpartition("@")[2].encode()),
            (b"connection", b"close"),
            (b"x-forwarded-method", scope["method"].encode()),
            (b"x-forwarded-uri", path),
            (b"x-forwarded-for", (scope.get("client") or ("unknown",))[0].encode()),
            *(
                (name, value)
                for name, value in scope["headers"]
                if name in {b"authorization", b"user-agent"}
            ),
        ]
        if any(b"\r" in value or b"\n" in value for _, value in question):
            raise ValueError("a header with a line break")
        tls = ssl.create_default_context() if self._url.scheme == "https" else None
        port = self._url.port or (443 if tls else 80)
        reader, writer = await asyncio.open_connection(self._url.hostname, port, ssl=tls)
        try:
            lines = [b"GET %s/gateway/forward HTTP/1.1" % self._url.path.rstrip("/").encode()]
            lines += [b"%s: %s" % header for header in question]
            writer.write(b"\r\n".join([*lines, b"", b""]))
            return _parsed(await _read_all(reader))
        finally:
            writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    while chunk := await reader.read(ANSWER_MAX_BYTES):
        raw += chunk
        if len(raw) > ANSWER_MAX_BYTES:
            raise ValueError("the ledger's answer is too long")
    return raw


def _parsed(raw: bytes) -> HTTPResponse:
    class Whole(io.BytesIO):
        def makefile(self, *_: object) -> "Whole":
            return self

    answer = HTTPResponse(cast("Any", Whole(raw)), method="GET")
    answer.begin()
    return answer


def _cleaned(headers: Headers) -> Headers:
    """Without the token, and without any spelling of our own headers."""
    return [
        (name, value)
        for name, value in headers
        if name.lower() != b"authorization" and b"scim" not in name.lower()
    ]


async def _refuse(scope: Message, send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

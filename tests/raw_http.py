"""A client of HTTP/1.1 for tests that ask a hundred thousand times:
one kept connection, one question on it.

It tells when an answer arrived, which is what the proofs about order and deadlines compare, and it
can hang up on a question. A general client costs this process more than the answer costs the
service.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import uvloop

T = TypeVar("T")
PATIENCE_S: Final = 10.0
"""Far beyond every deadline of the service: that one is kept is for the test to say."""
_END_OF_HEAD: Final = b"\r\n\r\n"


class Lost(ConnectionError):
    """The connection ended before the answer was whole:
    what became of the question is not known.
    """


class Answer(NamedTuple):
    """One whole answer. headers: names in lower case. raw: as it came. at: when (monotonic)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    raw: bytes
    at: float

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Client:
    """Asks one service over one connection, which is made anew when it has ended."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._address = (address.hostname, address.port)
        self._kept: _Connection | None = None

    async def ask(self, request: bytes) -> Answer:
        """The answer to a request. Raises Lost; TimeoutError far too late."""
        async with asyncio.timeout(PATIENCE_S):
            connection = await self._connection()
            return await connection.ask(request)

    async def abandon(self, request: bytes) -> None:
        """Send a request and hang up: perhaps it is carried out, now or later, perhaps never."""
        connection = await self._connection()
        connection.send(request)
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
            await kept.closed.wait()

    async def _connection(self) -> "_Connection":
        if self._kept is None or not self._kept.is_open:
            loop = asyncio.get_running_loop()
            try:
                _, self._kept = await loop.create_connection(_Connection, *self._address)
            except OSError as error:
                raise Lost("nobody listens") from error
        return self._kept

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = False
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self.send(request)
        return await self._answer

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = _parsed(self._received)
        if answer is None:
            return
        self._received = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
        if answer.headers.get("connection") == "close":
            self.is_open = False
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.closed.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost(str(exc)))


def _parsed(received: bytes) -> Answer | None:
    """The answer, if it is whole."""
    head, end, body = received.partition(_END_OF_HEAD)
    if not end:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if len(body) < int(headers["content-length"]):
        return None
    return Answer(int(status[9:12]), headers, body, received, monotonic())


def request(
    method: str,
    path: str,
    *headers: str,
    authorization: str | None = None,
    form: str | None = None,
    **document: Any,
) -> bytes:
    """A request. headers: whole lines. authorization: a token, sent as Bearer.

    document: a JSON body, by field. form: a body of the other kind.
    """
    body = json.dumps(document) if document else form or ""
    kind = "application/json" if document else "application/x-www-form-urlencoded"
    lines = [f"{method} {path} HTTP/1.1", "Host: ledger", *headers]
    if authorization is not None:
        lines.append(f"Authorization: Bearer {authorization}")
    if body:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body]).encode()


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the quick loop, so that this process is not what is measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())

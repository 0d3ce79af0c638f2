"""A small real SCIM service for the proxy to stand in front of:
uvicorn in a thread of the test's process.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import uvicorn

BASE_PATH: Final = "/tenant/scim"
PIECE: Final = b"x" * 65536


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for given, value in self.headers if given == name]

    @property
    def names(self) -> set[str]:
        """Every header's name, in lower case."""
        return {name for name, _ in self.headers}


@dataclass
class RecordingUpstream:
    """The path's last step says how it answers:
    each has a method here; any other is told the body's length.

    requests: in order of arrival. has_begun, was_left: of a request that takes its time. release:
    lets `/slow-reader` go on. received, sent: bytes of the last `/sink`, `/stream`. away: stops it
    for the block.
    """

    port: int
    requests: list[Seen] = field(default_factory=list)
    has_begun: threading.Event = field(default_factory=threading.Event)
    was_left: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    received: int = 0
    sent: int = 0
    away: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def url(self) -> str:
        """Where it is, with its base path."""
        return f"http://127.0.0.1:{self.port}{BASE_PATH}"

    @property
    def last(self) -> Seen:
        """The last request."""
        return self.requests[-1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        query = scope["query_string"].decode()
        headers = tuple(
            (name.decode(), value.decode("latin-1")) for name, value in scope["headers"]
        )
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        self.requests.append(Seen(scope["method"], target, headers))
        answer = getattr(self, "_" + scope["path"].rpartition("/")[2].replace("-", "_"), None)
        await (self._echo if answer is None else answer)(scope, receive, send)

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _read(receive)
        await _respond(send, 200, msgspec.json.encode({"length": len(body)}), scope)

    async def _mirror(self, _: Any, receive: Any, send: Any) -> None:
        """Each piece back as it comes."""
        await _start(send, 200)
        is_more = True
        while is_more:
            message = await receive()
            is_more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await _end(send)

    async def _sink(self, scope: Any, receive: Any, send: Any) -> None:
        self.received = 0
        is_more = True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.was_left.set()
                return
            self.received += len(message["body"])
            self.has_begun.set()
            is_more = message["more_body"]
        await _respond(send, 200, str(self.received).encode(), scope)

    async def _slow_reader(self, scope: Any, receive: Any, send: Any) -> None:
        """Takes nothing in until it is released."""
        self.has_begun.set()
        await asyncio.to_thread(self.release.wait, 20)
        await self._sink(scope, receive, send)

    async def _stream(self, _: Any, receive: Any, send: Any) -> None:
        """Sends for as long as somebody listens."""
        await _start(send, 200)
        leaving = asyncio.create_task(_left(receive))
        self.sent = 0
        while not leaving.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.sent += len(PIECE)
            self.has_begun.set()
            await asyncio.sleep(0)
        self.was_left.set()

    async def _big(self, _: Any, __: Any, send: Any) -> None:
        await _start(send, 200, (b"content-length", b"%d" % (800 * len(PIECE))))
        for _ in range(800):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await _end(send)

    async def _hang(self, _: Any, receive: Any, __: Any) -> None:
        self.has_begun.set()
        await _left(receive)
        self.was_left.set()

    async def _stall(self, _: Any, receive: Any, send: Any) -> None:
        """Begins an answer and falls silent."""
        await _start(send, 200, (b"content-length", b"10"))
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await _left(receive)
        self.was_left.set()

    async def _die(self, _: Any, __: Any, send: Any) -> None:
        """Hangs up in the middle of a body of known length."""
        await _start(send, 200, (b"content-length", b"10"))
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})

    async def _die_chunked(self, _: Any, __: Any, send: Any) -> None:
        await _start(send, 200)
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})

    async def _moved(self, _: Any, __: Any, send: Any) -> None:
        await _start(
            send, 302, (b"location", f"{self.url}/Users/1?a=b".encode()), (b"content-length", b"0")
        )
        await _end(send)

    async def _moved_here(self, _: Any, __: Any, send: Any) -> None:
        await _start(
            send, 201, (b"location", f"{BASE_PATH}/Users/2".encode()), (b"content-length", b"0")
        )
        await _end(send)

    async def _moved_away(self, _: Any, __: Any, send: Any) -> None:
        await _start(
            send,
            302,
            (b"location", f"{self.url}-elsewhere/Users".encode()),
            (b"content-length", b"0"),
        )
        await _end(send)

    async def _empty(self, _: Any, __: Any, send: Any) -> None:
        await _start(send, 204)
        await _end(send)

    async def _unchanged(self, _: Any, __: Any, send: Any) -> None:
        await _start(send, 304, (b"etag", b'W/"1"'))
        await _end(send)

    async def _hops(self, scope: Any, _: Any, send: Any) -> None:
        headers = (
            (b"connection", b"x-hop, close"),
            (b"x-hop", b"1"),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-authenticate", b"Basic"),
            (b"trailer", b"x-later"),
            (b"upgrade", b"h2c"),
            (b"x-end", b"to-end"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
        )
        await _respond(send, 200, b"{}", scope, *headers)

    async def _refuse(self, scope: Any, _: Any, send: Any) -> None:
        """Answers at once, whatever the body."""
        await _respond(send, 413, b"too large", scope)

    async def _continue(self, scope: Any, receive: Any, send: Any) -> None:
        await self._echo(scope, receive, send)


async def _read(receive: Any) -> bytes:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    return body


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Any, status: int, *headers: tuple[bytes, bytes]) -> None:
    given = [(b"content-type", b"application/scim+json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": given})


async def _respond(
    send: Any, status: int, body: bytes, scope: Any, *headers: tuple[bytes, bytes]
) -> None:
    await _start(send, status, (b"content-length", str(len(body)).encode()), *headers)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _end(send: Any) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def running_upstream() -> Iterator[RecordingUpstream]:
    """Start it on a free port; stop it in the end, whoever still waits."""
    listener = socket.create_server(("127.0.0.1", 0))
    upstream = RecordingUpstream(listener.getsockname()[1])
    stop = _serve(upstream, listener)

    @contextmanager
    def away() -> Iterator[None]:
        nonlocal stop
        stop()
        yield
        stop = _serve(upstream, socket.create_server(("127.0.0.1", upstream.port)))

    upstream.away = away
    try:
        yield upstream
    finally:
        stop()


def _serve(upstream: RecordingUpstream, listener: socket.socket) -> Callable[[], None]:
    config = uvicorn.Config(
        upstream, lifespan="off", log_config=None, timeout_graceful_shutdown=1, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()

    def stop() -> None:
        upstream.release.set()
        server.should_exit = True
        thread.join(10)
        listener.close()

    return stop

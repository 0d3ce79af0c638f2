"""A real server around the strict protocol, in a thread, and a raw client for it."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from typing import Any, Literal

import uvicorn

HOST = b"Host: ledger\r\n"
GOOD = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
_FINAL = re.compile(rb"HTTP/1\.1 [2-5]\d\d .*?\r\n\r\n", re.DOTALL)
CHUNKED = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, the number of Authorization headers seen after the body,
    and the body's size.
    """
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    seen = sum(name == b"authorization" for name, _ in scope["headers"])
    body = b"%s %d %d" % (scope["path"].encode(), seen, size)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/late-body":
        await asyncio.sleep(0.3)
    if scope["path"] != "/no-body":
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(
    protocol: type[asyncio.Protocol],
    app: Any = app,
    listener: socket.socket | None = None,
    *,
    lifespan: Literal["on", "off"] = "off",
) -> Iterator[tuple[str, int]]:
    listener = listener or socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def connect(address: tuple[str, int]) -> AbstractContextManager[socket.socket]:
    return closing(socket.create_connection(address, timeout=5))


def read_to_end(client: socket.socket) -> bytes:
    """Return all that arrives until the server closes;
    a server that does not close fails the test.
    """
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


def exchange(address: tuple[str, int], *pieces: bytes) -> bytes:
    """All that is answered; each answer says when it was made (RFC 9110 §6.6.1)."""
    with connect(address) as client:
        for piece in pieces:
            client.sendall(piece)
        answer = read_to_end(client)
    for told in _FINAL.findall(answer):
        assert b"\r\ndate: " in told, told
    return answer


def head(
    *headers: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"1.1"
) -> bytes:
    lines = [b"%s %s HTTP/%s" % (method, target, version), b"Host: ledger", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]

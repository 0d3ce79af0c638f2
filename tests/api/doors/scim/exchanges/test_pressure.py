"""Neither side is read much faster than the other one takes: what is held between them is bounded,
however large a body is.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from litestar.types import HTTPScope, Message

from api.doors.client_address import ClientAddresses
from api.doors.scim.connection import BUFFER_BYTES
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.exchanges.running import IDENTITY, Caller, PairedLoop
from tests.api.doors.scim.exchanges.script import IDLE_S, NEVER, Asks

PIECE: Final = b"x" * 65536
PIECES: Final = 60
WAITS_S: Final = 1.0
SOCKETS_HOLD: Final = 2**20
"""Bytes, and more than they do. The event loop reads and writes less than that at once, too."""


class Taking(Caller):
    """Takes a part of the answer in a second, and looks at how much more was sent."""

    def __init__(self, asks: Asks, sent: Callable[[], int]) -> None:
        super().__init__(asks, b"first")
        self._sent = sent
        self._got = 0
        self.ahead: list[int] = []

    async def send(self, message: Message) -> None:
        await asyncio.sleep(WAITS_S)
        if message["type"] == "http.response.body":
            self.ahead.append(self._sent() - self._got)
            self._got += len(message["body"])
        await super().send(message)


def test_an_answer_is_read_no_faster_than_the_client_takes_it() -> None:
    sent = 0

    async def serve(end: socket.socket) -> None:
        nonlocal sent
        loop = asyncio.get_running_loop()
        await loop.sock_recv(end, 65536)
        await loop.sock_sendall(
            end, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (PIECES * len(PIECE))
        )
        for _ in range(PIECES):
            await loop.sock_sendall(end, PIECE)
            sent += len(PIECE)
        await loop.sock_recv(end, 1)

    caller = Taking(Asks("GET", None, None, (), NEVER), lambda: sent)
    exchange(serve, caller)
    status, body, is_whole = caller.outcome()
    assert (status, len(body), is_whole) == (200, PIECES * len(PIECE), True)
    assert max(caller.ahead) < BUFFER_BYTES + SOCKETS_HOLD


def test_a_body_is_read_no_faster_than_the_upstream_takes_it() -> None:
    ahead: list[int] = []
    asks = Asks("POST", [(0, len(PIECE))] * PIECES, PIECES * len(PIECE), (), NEVER)
    caller = Caller(asks, b"first")

    async def serve(end: socket.socket) -> None:
        loop, got = asyncio.get_running_loop(), 0
        while got < PIECES * len(PIECE):
            await asyncio.sleep(WAITS_S)
            ahead.append(caller.position - got)
            came = await loop.sock_recv(end, BUFFER_BYTES)
            assert came
            got += len(came)
        await loop.sock_sendall(end, b"HTTP/1.1 204 No Content\r\n\r\n")
        await loop.sock_recv(end, 1)

    exchange(serve, caller)
    assert caller.outcome() == (204, b"", True)
    assert max(ahead) < SOCKETS_HOLD


def exchange(serve: Callable[[socket.socket], Any], caller: Caller) -> None:
    serving: list[asyncio.Task[None]] = []

    async def served(end: socket.socket) -> None:
        with end:
            await serve(end)

    async def story() -> None:
        loop = cast("PairedLoop", asyncio.get_running_loop())
        loop.accept = lambda end: serving.append(asyncio.create_task(served(end)))
        upstream = Upstream(
            Settings(
                scim_upstream_url="http://upstream.example",
                upstream_head_timeout_s=PIECES * IDLE_S,
                upstream_idle_timeout_s=IDLE_S,
            ),
            ClientAddresses(),
        )
        await upstream.forward(
            cast("HTTPScope", caller.scope), caller.receive, caller.send, IDENTITY
        )
        await upstream.aclose()
        await asyncio.gather(*serving)

    with asyncio.Runner(loop_factory=PairedLoop) as runner:
        runner.run(story())

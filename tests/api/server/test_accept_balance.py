"""Connections go to the worker that has the fewest, if it comes for them."""

import asyncio
import gc
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import uvicorn
import uvloop
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from api.server import accept_balance
from api.server.accept_balance import Acceptor, Counts, new_counts
from api.server.protocol import StrictHttpProtocol
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no memfd")

PATIENCE_S: Final = 0.2
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: it\r\n\r\n"


async def app(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Workers:
    """As many acceptors of one socket, in one process and one event loop."""

    def __init__(self, number: int, *, coming: int | None = None) -> None:
        """coming: how many of them there are; the others only told that they have no connection."""
        fd = new_counts(number)
        assert fd is not None
        self.counts = [Counts(fd, one) for one in range(1, number + 1)]
        os.close(fd)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listeners = [self.listener]
        self.states = [ServerState() for _ in range(number)]
        for counts in self.counts:
            counts.tell(0)
        self.acceptors = [
            self._acceptor(index) for index in range(number if coming is None else coming)
        ]
        self._clients: list[asyncio.StreamWriter] = []

    @property
    def connections(self) -> list[int]:
        return [len(state.connections) for state in self.states]

    async def connect(self) -> asyncio.StreamReader:
        """A connection that was answered once."""
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        self._clients.append(writer)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        return reader

    async def aclose(self) -> None:
        for acceptor in self.acceptors:
            acceptor.close()
        for client in self._clients:
            client.close()
            await client.wait_closed()
        while any(self.connections):
            await asyncio.sleep(0.001)
        for listener in self._listeners:
            listener.close()

    def _acceptor(self, index: int) -> Acceptor:
        config, state = uvicorn.Config(app, lifespan="off", log_config=None), self.states[index]
        config.load()

        def protocol() -> StrictHttpProtocol:
            return StrictHttpProtocol(config=config, server_state=state, app_state={})

        self._listeners.append(self.listener.dup())  # as inherited by another process
        return Acceptor(
            self._listeners[-1], protocol, connections=state.connections, counts=self.counts[index]
        )


def run(
    ask: Callable[[Workers], Awaitable[None]], workers: int, *, coming: int | None = None
) -> None:
    async def main() -> None:
        made = Workers(workers, coming=coming)
        try:
            async with asyncio.timeout(30):
                await ask(made)
        finally:
            await made.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, nobody is late by accident."""
    monkeypatch.setattr(accept_balance, "PATIENCE_S", 60.0)
    monkeypatch.setattr(accept_balance, "ABSENT_S", 60.0)


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - after it
    monkeypatch.setattr(accept_balance, "PATIENCE_S", PATIENCE_S)


@pytest.mark.parametrize("workers", [2, 3])
def test_each_gets_as_many_when_they_come_one_by_one(workers: int) -> None:
    async def ask(made: Workers) -> None:
        for _ in range(4 * workers):
            await made.connect()
        assert made.connections == [4] * workers

    run(ask, workers)


@pytest.mark.parametrize("workers", [2, 3])
def test_each_gets_about_as_many_when_they_come_at_once(workers: int) -> None:
    async def ask(made: Workers) -> None:
        await asyncio.gather(*(made.connect() for _ in range(16 * workers)))
        assert sum(made.connections) == 16 * workers
        assert max(made.connections) - min(made.connections) <= 3

    run(ask, workers)


def test_who_lost_some_gets_the_next_ones() -> None:
    async def ask(made: Workers) -> None:
        for _ in range(8):
            await made.connect()
        for protocol in list(made.states[1].connections):
            protocol.transport.close()
        while made.connections != [4, 0]:
            await asyncio.sleep(0.001)
        for _ in range(4):
            await made.connect()
        assert made.connections == [4, 4]

    run(ask, 2)


@pytest.mark.usefixtures("hasty")
def test_who_does_not_come_is_waited_for_once() -> None:
    """Also beside others, whose counts change."""

    async def ask(made: Workers) -> None:
        for _ in range(2):
            await made.connect()
        assert await waits(made)
        watch = Stopwatch()
        for _ in range(10):
            await made.connect()
        assert watch.read_s() < 2 * PATIENCE_S
        assert sorted(made.connections) == [0, 6, 7]

    run(ask, 3, coming=2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("is_over", [False, True])
def test_it_is_waited_for_again_after_a_while(
    is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept_balance, "ABSENT_S", 2 * PATIENCE_S if is_over else 60.0)

    async def ask(made: Workers) -> None:
        await made.connect()
        assert await waits(made)
        await asyncio.sleep(2 * PATIENCE_S)
        assert await waits(made) == is_over

    run(ask, 2, coming=1)


@pytest.mark.usefixtures("hasty")
def test_it_is_waited_for_again_once_its_count_changes() -> None:
    async def ask(made: Workers) -> None:
        for _ in range(3):
            await made.connect()
        made.counts[1].tell(1)
        assert await waits(made)

    run(ask, 2, coming=1)


async def waits(made: Workers) -> bool:
    """Whether the next connection is left to somebody else at first."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await made.connect()
    return loop.time() - began > 0.9 * PATIENCE_S


def test_who_leaves_is_not_waited_for() -> None:
    async def ask(made: Workers) -> None:
        made.acceptors[1].close()
        for _ in range(4):
            await made.connect()
        assert made.connections == [4, 0]

    run(ask, 2)


def test_a_connection_that_opens_as_its_worker_leaves_is_ended() -> None:
    async def ask(made: Workers) -> None:
        with socket.create_connection(made.listener.getsockname(), timeout=10) as client:
            client.setblocking(False)
            acceptor = made.acceptors[0]
            while not acceptor._opening:
                await asyncio.sleep(0)
            acceptor.close()
            async with asyncio.timeout(5):  # and not with the keep-alive's end
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""

    run(ask, 1)


def test_without_descriptors_it_waits_and_then_accepts() -> None:
    async def ask(made: Workers) -> None:
        with socket.create_connection(made.listener.getsockname(), timeout=10) as client:
            client.setblocking(False)
            with no_descriptors_left(), capture_logs() as logged:
                await asyncio.sleep(2.5 * accept_balance.RETRY_S)
            assert made.connections == [0]
            assert {record["event"] for record in logged} == {"accepts no connection"}
            assert len(logged) <= 3, "not again and again"
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, REQUEST)
            assert (await loop.sock_recv(client, 12)).endswith(b"204")

    run(ask, 1)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

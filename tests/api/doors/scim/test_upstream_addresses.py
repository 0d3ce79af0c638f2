"""The upstream's name may have several addresses, of which some lead nowhere."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from itertools import permutations
from typing import Any, Final

import pytest
import uvloop

from api.doors.client_address import ClientAddresses
from api.doors.scim import pool as pools
from api.doors.scim.pool import Origin, Pool
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.test_upstream_framing import Request, send
from tests.conftest import Run

NAME: Final = "scim.test"
GOOD: Final = "127.0.0.1"
SILENT: Final = "127.0.0.2"
CLOSED: Final = "127.0.0.3"
CONNECT_TIMEOUT_S: Final = 1.0


@contextmanager
def swallowing(address: str, port: int) -> Iterator[None]:
    """An address that answers nothing: its queue of connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


@pytest.mark.parametrize("addresses", list(permutations([GOOD, SILENT, CLOSED])))
def test_one_good_address_is_enough(
    addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(port: int) -> None:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def found(host: str, port: int, **options: Any) -> list[Any]:
            names = addresses if host == NAME else (host,)
            return [each for name in names for each in await resolve(name, port, **options)]

        monkeypatch.setattr(loop, "getaddrinfo", found)
        pool = Pool(Origin(False, NAME, port), connect_timeout_s=CONNECT_TIMEOUT_S)
        with swallowing(SILENT, port):
            connection = await pool.fresh()
        connection.close()

    with (
        socket.create_server((GOOD, 0)) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,  # as the workers have it
    ):
        runner.run(story(listener.getsockname()[1]))


def test_a_name_that_moves_is_followed_however_busy_its_connections_are(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old address goes on to answer, as a service does that is to be switched off."""
    monkeypatch.setattr(pools, "LIFETIME_S", 0.6)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        resolve, leads_to = loop.getaddrinfo, GOOD

        async def found(_: str, port: int, **options: Any) -> list[Any]:
            return await resolve(leads_to, port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", found)
        async with serving(GOOD, 0) as port, serving(CLOSED, port):
            pool = Pool(Origin(False, NAME, port), connect_timeout_s=CONNECT_TIMEOUT_S)
            assert await asked(pool) == GOOD
            leads_to = CLOSED
            kept_until = loop.time() + 0.1
            while loop.time() < kept_until:
                assert await asked(pool) == GOOD, "a new connection costs a round trip or three"
            async with asyncio.timeout(5):
                while await asked(pool) != CLOSED:
                    pass
            pool.close()

    run(story())


async def asked(pool: Pool) -> str:
    """The address of the upstream that answers a request."""
    connection = pool.kept() or await pool.fresh()
    answer = await connection.ask([b"GET / HTTP/1.1", b"host: x"], None)
    told = b""
    while not answer.is_read:
        told += await answer.read()
    pool.give_back(connection)
    return told.decode()


@asynccontextmanager
async def serving(address: str, port: int) -> AsyncIterator[int]:
    """A service that answers each request with its address, and its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                told = address.encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(told)
                writer.write(head + told)

    server = await asyncio.start_server(answer, address, port)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_an_address_that_accepts_nothing_is_told_as_that(run: Run) -> None:
    async def story(port: int) -> None:
        pool = Pool(Origin(False, SILENT, port), connect_timeout_s=0.2)
        with swallowing(SILENT, port), pytest.raises(TimeoutError, match="no connection in time"):
            await pool.fresh()

    with socket.create_server((GOOD, 0)) as listener:
        run(story(listener.getsockname()[1]))


def test_a_name_that_nobody_looks_up_in_time_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async def silent(*_: object, **__: object) -> list[Any]:
            await asyncio.sleep(60)
            return []

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError):
                await Pool(Origin(False, NAME, 80), connect_timeout_s=0.1).fresh()

    began_at = time.monotonic()
    run(story())
    assert time.monotonic() - began_at < 3


@pytest.mark.parametrize(
    ("url", "port"),
    [
        (f"http://{NAME}", 80),
        (f"https://{NAME}", 443),
        (f"https://{NAME}/tenant/scim", 443),
        (f"http://{NAME}:8443", 8443),
        (f"https://{NAME}:80", 80),
    ],
)
def test_an_address_without_a_port_means_that_of_its_scheme(
    run: Run, url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[tuple[str, int]] = []

    async def story() -> int:
        async def found(host: str, port: int, **_: object) -> list[Any]:
            looked_up.append((host, port))
            return []

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        upstream = Upstream(Settings(scim_upstream_url=url), ClientAddresses())
        sent: list[Any] = await send(upstream, Request([], 0, "", "GET"), "x")
        return int(sent[0]["status"])

    assert run(story()) == 502
    assert looked_up == [(NAME, port)]

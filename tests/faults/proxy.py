"""A PostgreSQL wire proxy that misbehaves on demand: what lies between a ledger and its database.

It understands just enough of the protocol to place a fault exactly: message borders, which
statement a Bind refers to (a prepared statement's text is sent once), and the ReadyForQuery that
ends each answer.
"""

import asyncio
import re
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_READY_FOR_QUERY: Final = b"Z"
_SYNC, _QUERY, _PARSE, _BIND = b"S", b"Q", b"P", b"B"


class Fault(Enum):
    """What happens to a statement.

    REPLY_LOST: the server carries it out, its answer is swallowed, and the connection ends.
    NEVER_SENT: the connection ends before the server sees it.
    STUCK: it is withheld, the connection stays open, and nothing passes any more.
    SWALLOWED: the server carries it out, and whatever it says from then on is swallowed; the
    connection stays open.
    """

    REPLY_LOST = auto()
    NEVER_SENT = auto()
    STUCK = auto()
    SWALLOWED = auto()


@dataclass
class _Order:
    fault: Fault
    text: str
    skip: int

    def is_for(self, statement: str) -> bool:
        """Whole words: READ COMMITTED is no COMMIT."""
        return re.search(rf"\b{re.escape(self.text)}\b", statement) is not None


class Proxy:
    """In front of one server; every control works at once, also on connections that are open.

    conninfo: leads through the proxy. fired: how many faults have happened. delay_s: added to each
    answer.
    """

    def __init__(self, upstream: str, directory: Path) -> None:
        self._upstream = {
            name: str(value) for name, value in conninfo_to_dict(upstream).items() if value
        }
        self._directory = directory
        self.conninfo = make_conninfo(
            upstream, host=str(directory), port=5432, sslmode="disable", gssencmode="disable"
        )
        self.fired = 0
        self.answers = 0
        self.delay_s = 0.0
        self._orders: list[_Order] = []
        self._is_refusing = False
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None

    def strike(self, fault: Fault, text: str = "", *, times: int = 1, skip: int = 0) -> None:
        """Do `fault` to the next statements that contain `text` (any statement when empty),
        after `skip`.
        """
        self._orders.extend(_Order(fault, text, skip) for _ in range(times))

    def forget(self) -> None:
        """Strike no more, and end every connection that is stuck."""
        self._orders.clear()
        for link in list(self._links):
            if link.is_stuck or link.is_held:
                link.end()

    def hang(self) -> None:
        """Forward nothing, in either direction,
        and accept connections as a hung server's kernel does.
        """
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again, beginning with what was held back."""
        self._flowing.set()

    def black_hole(self) -> None:
        """Never forward anything on today's connections again; new ones work."""
        for link in self._links:
            link.is_stuck = True

    def refuse(self) -> None:
        """As if the database were stopped: every connection ends, and so does each new one."""
        self._is_refusing = True
        self.cut()

    def accept(self) -> None:
        """Let new connections through again."""
        self._is_refusing = False

    def cut(self) -> None:
        """End every connection."""
        for link in list(self._links):
            link.end()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            writer.close()
            return
        try:
            server_reader, server_writer = await self._open_upstream()
        except OSError:
            writer.close()
            return
        link = _Link(self, writer, server_writer)
        self._links.add(link)
        try:
            await asyncio.gather(link.forward_asks(reader), link.forward_answers(server_reader))
        finally:
            link.end()
            self._links.discard(link)

    async def _open_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._upstream.get("host", "localhost"), self._upstream.get("port", "5432")
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    def order_for(self, statement: str) -> Fault | None:
        """What to do to `statement`; an order is used up by it."""
        order = next((order for order in self._orders if order.is_for(statement)), None)
        if order is None:
            return None
        if order.skip > 0:
            order.skip -= 1
            return None
        self._orders.remove(order)
        self.fired += 1
        return order.fault

    async def flow(self) -> None:
        """Wait while the proxy hangs."""
        await self._flowing.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(
            self._connected, self._directory / ".s.PGSQL.5432", limit=2**24
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.resume()
        self.cut()
        while self._links:
            await asyncio.sleep(0)


class _Link:
    """One client's connection and the one to the server that goes with it."""

    def __init__(
        self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._statements: dict[bytes, str] = {}
        self._asked = 1  # the start-up's answer ends with a ReadyForQuery too
        self._answered = 0
        self._swallow_from: int | None = None
        self.is_stuck = False
        self.is_held = False

    def end(self) -> None:
        """Close both sides."""
        for writer in (self._client, self._server):
            writer.close()

    async def forward_asks(self, reader: asyncio.StreamReader) -> None:
        """Client to server, message by message."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            length = await reader.readexactly(4)
            await self._send(
                self._server, length + await reader.readexactly(int.from_bytes(length) - 4)
            )
            while True:
                kind, message = await _message(reader)
                fault = self._fault(kind, message[5:])
                if fault is Fault.NEVER_SENT:
                    break
                if fault is Fault.STUCK:
                    self.is_stuck = True
                if fault in {Fault.REPLY_LOST, Fault.SWALLOWED}:
                    self._swallow_from = self._asked
                    self.is_held = fault is Fault.SWALLOWED
                if kind in {_SYNC, _QUERY}:
                    self._asked += 1
                await self._send(self._server, message)
        self.end()

    async def forward_answers(self, reader: asyncio.StreamReader) -> None:
        """Server to client, message by message."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, message = await _message(reader)
                if self._swallow_from is None or self._answered < self._swallow_from:
                    if self._proxy.delay_s and kind == _READY_FOR_QUERY:
                        await asyncio.sleep(self._proxy.delay_s)
                    await self._send(self._client, message)
                elif kind == _READY_FOR_QUERY and not self.is_held:
                    break
                if kind == _READY_FOR_QUERY:
                    self._answered += 1
                    self._proxy.answers += 1
        if not self.is_held:
            self.end()

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        await self._proxy.flow()
        if self.is_stuck:
            # Until somebody ends the link: then writing fails.
            await writer.wait_closed()
            raise ConnectionAbortedError
        writer.write(message)
        await writer.drain()

    def _fault(self, kind: bytes, body: bytes) -> Fault | None:
        """Parse names a text, Bind runs it; a simple query does both."""
        if kind == _PARSE:
            name, text, _ = body.split(b"\0", 2)
            self._statements[name] = text.decode()
        elif kind == _BIND:
            _, name, _ = body.split(b"\0", 2)
            return self._proxy.order_for(self._statements[name])
        elif kind == _QUERY:
            return self._proxy.order_for(body.decode())
        return None


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


@asynccontextmanager
async def open_proxy(upstream: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the server of a connection string, on a Unix socket of its own."""
    directory = Path(tempfile.mkdtemp(prefix="scim-proxy-", dir="/tmp"))
    try:
        async with Proxy(upstream, directory) as proxy:
            yield proxy
    finally:
        shutil.rmtree(directory)


class ProxyThread:
    """A proxy whose loop runs in a thread, for tests that block:
    its service runs in other processes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
        self._loop = loop
        self._proxy = proxy
        self.conninfo = proxy.conninfo

    @property
    def fired(self) -> int:
        """How many faults have happened."""
        return self._proxy.fired

    def tell(self, control: Callable[[Proxy], None]) -> None:
        """Use one of the proxy's controls; returns when it is in force."""

        async def do() -> None:
            control(self._proxy)

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()


@contextmanager
def proxy_thread(upstream: str) -> Iterator[ProxyThread]:
    """A proxy in a thread of its own."""
    ready: Future[ProxyThread] = Future()

    async def main() -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        async with open_proxy(upstream) as proxy:
            stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
            ready.set_result(ProxyThread(loop, proxy))
            await stopping.wait()

    stop: list[Callable[[], object]] = []
    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    started = ready.result(timeout=10)
    try:
        yield started
    finally:
        stop[0]()
        thread.join()

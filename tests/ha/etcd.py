"""The store in which Patroni keeps who leads: one real etcd, reached by each node through a link
of its own.
"""

import asyncio
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.gateways.programs import free_port
from tests.service import until


class Link:
    """A way to etcd that can be cut. port: where it is entered."""

    def __init__(self, upstream: int) -> None:
        self.port = 0
        self._upstream = upstream
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> asyncio.Server:
        """Listen on a free port."""
        made = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = made.sockets[0].getsockname()[1]
        return made

    async def cut(self) -> None:
        """Every connection ends, and so does each new one."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def mend(self) -> None:
        """New connections go through again."""
        self._is_cut = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(_forward(reader, back), _forward(there, writer))
        finally:
            self._writers -= ends


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Links:
    """As many as there are nodes, on a loop in a thread of its own."""

    def __init__(self, upstream: int, count: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.each = [Link(upstream) for _ in range(count)]
        self._servers = [self.do(link.open()) for link in self.each]

    def do(self, control: Coroutine[Any, Any, Any]) -> Any:
        """Use a link's control; returns when it is in force."""
        return asyncio.run_coroutine_threadsafe(control, self._loop).result(timeout=10)

    def close(self) -> None:
        """End all of it."""
        for link, server in zip(self.each, self._servers, strict=True):
            self.do(link.cut())
            self._loop.call_soon_threadsafe(server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def etcd() -> Iterator[int]:
    """Its port for clients."""
    directory = Path(tempfile.mkdtemp(prefix="scim-etcd-", dir="/tmp"))
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("etcd", "--name", "one", "--data-dir", directory / "data", "--logger", "zap"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"one={peer}"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _is_well(client), timeout_s=30, what="etcd", tell=log.read_text)
        yield int(client.rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _is_well(url: str) -> bool:
    with suppress(httpx.TransportError):
        return bool(httpx.get(f"{url}/health", trust_env=False).json() == {"health": "true"})
    return False

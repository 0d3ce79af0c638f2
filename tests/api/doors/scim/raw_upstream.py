"""An upstream that reads bytes by RFC 9112 to the letter and answers as it is told,
for what a library hides.

Each request names itself (`x-name`), and each answer names the request that it is for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

BEHAVIOURS: Final = (
    "reads",
    "reads and closes",
    "answers at once",
    "answers at once and closes",
    "answers halfway",
    "says 100 first",
    "says too much",
    "says too much later",
    "says nothing",
    "breaks off",
)


@dataclass(frozen=True)
class Heard:
    """A request as it was framed on the wire."""

    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class RawUpstream:
    """heard: requests that came to their end.

    begun: names of those whose head came. behave: by name.
    """

    port: int = 0
    behave: dict[str, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as it lasts."""
        self.connections[asyncio.current_task()] = writer
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        name = headers.get("x-name", "")
        if name not in self.behave:
            self.faults.append(f"a request that nobody sent: {request_line}")
            return False
        self.begun.append(name)
        behaviour = self.behave[name]
        if behaviour == "says nothing":
            return False
        if behaviour == "breaks off":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            return False
        answer = b"HTTP/1.1 200 OK\r\nx-name: %s\r\ncontent-length: %d\r\n\r\n%s" % (
            name.encode(),
            len(name),
            name.encode(),
        )
        if behaviour.startswith("answers at once"):
            writer.write(answer)
            await writer.drain()
            if behaviour.endswith("closes"):
                return False
        if behaviour == "says 100 first":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"".join(
            [piece async for piece in self._body(reader, headers, writer, answer, behaviour)]
        )
        self.heard.append(Heard(request_line.split(" ")[1], headers, body))
        if behaviour in {"reads", "reads and closes", "says 100 first"}:
            writer.write(answer)
        if behaviour.startswith("says too much"):
            writer.write(answer)
            if behaviour.endswith("later"):
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(answer.replace(b"200 OK", b"299 Surplus"))
        await writer.drain()
        return behaviour != "reads and closes"

    async def _body(
        self,
        reader: asyncio.StreamReader,
        headers: Mapping[str, str],
        writer: asyncio.StreamWriter,
        answer: bytes,
        behaviour: str,
    ) -> AsyncIterator[bytes]:
        is_due = behaviour == "answers halfway"
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield await reader.readexactly(size)
                if is_due:
                    writer.write(answer)
                    is_due = False
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            length = int(headers.get("content-length", "0"))
            yield await reader.readexactly(length // 2)
            if is_due:
                writer.write(answer)
                is_due = False
            yield await reader.readexactly(length - length // 2)
        if is_due:
            writer.write(answer)


@asynccontextmanager
async def raw_upstream() -> AsyncIterator[RawUpstream]:
    """Listen on a free port for the block."""
    upstream = RawUpstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    async with server:
        yield upstream
        for writer in upstream.connections.values():
            writer.close()
        await asyncio.gather(*filter(None, upstream.connections))

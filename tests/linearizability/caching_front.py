"""The planted bug of the proofs about order:
a front that remembers good answers, as a gateway might.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Final

from tests.raw_http import Client

CACHED_FOR_S: Final = 0.2
_END_OF_HEAD: Final = b"\r\n\r\n"


class CachingFront:
    """Passes requests on to one service; a 200 to an authentication is given again for a while.

    given_again: how many answers came from memory.
    """

    def __init__(self, url: str, *, cached_for_s: float) -> None:
        self._url = url
        self._cached_for_s = cached_for_s
        self._known: dict[bytes, tuple[float, bytes]] = {}
        self._open: set[asyncio.Task[None]] = set()
        self.given_again = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, and one to the service that goes with it."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async with Client(self._url) as service:
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    while True:
                        writer.write(await self._answer(service, await _request(reader)))
        finally:
            writer.close()
            self._open.discard(task)

    async def end(self) -> None:
        """Hang up on everybody."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer(self, service: Client, request: bytes) -> bytes:
        good_until, known = self._known.get(request, (0.0, b""))
        if monotonic() < good_until:
            self.given_again += 1
            return known
        answer = await service.ask(request)
        is_yes = answer.status == 200 and b'{"active":false' not in answer.body
        if is_yes and request.startswith((b"POST /verify ", b"GET /gateway/", b"GET /scim/v2/")):
            self._known[request] = (monotonic() + self._cached_for_s, answer.raw)
        return answer.raw


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(_END_OF_HEAD)
    lines = (line.partition(b": ") for line in head.split(b"\r\n"))
    length = next((int(value) for name, _, value in lines if name == b"Content-Length"), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def caching_front(
    url: str, *, cached_for_s: float = CACHED_FOR_S
) -> AsyncIterator[tuple[str, CachingFront]]:
    """A front of a service on a free port: its address, and itself."""
    front = CachingFront(url, cached_for_s=cached_for_s)
    async with await asyncio.start_server(front.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", front
        await front.end()


@asynccontextmanager
async def caching_fronts(
    urls: Sequence[str], *, cached_for_s: float = CACHED_FOR_S
) -> AsyncIterator[tuple[list[str], list[CachingFront]]]:
    """One for each service."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(caching_front(url, cached_for_s=cached_for_s))
            for url in urls
        ]
        yield [url for url, _ in made], [front for _, front in made]

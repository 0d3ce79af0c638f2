"""The pool of connections to the upstream, with a limit in all and one for each token."""

import asyncio
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from api.doors.scim.connection import Connection

MAX_CONNECTIONS: Final = 100
"""Per worker."""
SHARE: Final = 25
"""Of one token: its slow uploads leave three quarters of the slots to the other teams."""
WAIT_S: Final = 2.0
"""For a slot. Whoever waits longer had better come back."""
KEEP_ALIVE_S: Final = 4.0
"""Less than the 5 s after which common servers close an idle connection, so that we close first."""
LIFETIME_S: Final = 60.0
"""Of a connection that is never idle for so long. The name of the upstream is looked up for a new
one only: whoever moves it to another address is followed within this time, under load, too.
"""


_CONNECTION_IS_LATE: Final = "it accepted no connection in time"
_TLS_IS_LATE: Final = "it accepted no connection, or ended no handshake of TLS, in time"


class ShareTaken(Exception):
    """The token has as many requests under way as one may have."""


class NoSlot(Exception):
    """All connections are taken, and none became free in time."""


class Origin(NamedTuple):
    """Where the upstream is. is_tls: https. host: as a name or an address, without brackets."""

    is_tls: bool
    host: str
    port: int


class UpstreamSlots:
    """How many exchanges may be under way, in all and for one holder.

    Keeps nothing of who has none.
    """

    def __init__(
        self, *, most: int = MAX_CONNECTIONS, share: int = SHARE, wait_s: float = WAIT_S
    ) -> None:
        self._free = most
        self._share = share
        self._wait_s = wait_s
        self._held: Counter[bytes] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def taken(self, holder: bytes) -> AsyncIterator[None]:
        """One slot for the block. Raises ShareTaken at once, NoSlot after a while."""
        if self._held[holder] >= self._share:
            raise ShareTaken
        self._held[holder] += 1
        try:
            await self._take()
            try:
                yield
            finally:
                self._give_back()
        finally:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]

    async def _take(self) -> None:
        if self._free:
            self._free -= 1
            return
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(came)
        try:
            async with asyncio.timeout(self._wait_s):
                await came
        except BaseException as error:
            if came.done() and not came.cancelled():  # it came in the same moment
                self._give_back()
            if isinstance(error, TimeoutError):
                raise NoSlot from None
            raise

    def _give_back(self) -> None:
        while self._waiting:
            came = self._waiting.popleft()
            if not came.done():
                came.set_result(None)
                return
        self._free += 1


class Pool:
    """Connections to one origin, kept for a few seconds after use.

    connect_timeout_s: for a new one.
    """

    def __init__(self, origin: Origin, *, connect_timeout_s: float) -> None:
        self._origin = origin
        self._connect_timeout_s = connect_timeout_s
        self._tls = ssl.create_default_context() if origin.is_tls else None
        self._idle: dict[Connection, asyncio.TimerHandle] = {}

    def kept(self) -> Connection | None:
        """The connection that was used last, if one is there."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_usable and connection.is_silent:
                return connection
            connection.close()
        return None

    async def fresh(self) -> Connection:
        """A new connection. Raises OSError, TimeoutError.

        A name may have several addresses. Each has a share of the time, so that one that swallows
        everything leaves the rest to those behind it.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._connect_timeout_s
        async with asyncio.timeout_at(ends_at):
            found = await loop.getaddrinfo(
                self._origin.host, self._origin.port, type=socket.SOCK_STREAM
            )
        error = OSError("the name has no address")
        for tried, (*_, address) in enumerate(found):
            share_s = (ends_at - loop.time()) / (len(found) - tried)
            try:
                async with asyncio.timeout(share_s):
                    return await self._connected(str(address[0]))
            except TimeoutError:
                error = TimeoutError(_TLS_IS_LATE if self._tls else _CONNECTION_IS_LATE)
            except OSError as refusal:
                error = refusal
        try:
            raise error
        finally:
            del error  # it has this frame, which must not have it

    async def _connected(self, address: str) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection,
            address,
            self._origin.port,
            ssl=self._tls,
            server_hostname=self._origin.host if self._origin.is_tls else None,
        )
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep it if another request may go over it and it is not too old; else hang up."""
        age_s = asyncio.get_running_loop().time() - connection.made_at
        if connection.is_usable and age_s < LIFETIME_S:
            timer = asyncio.get_running_loop().call_later(KEEP_ALIVE_S, self._expire, connection)
            self._idle[connection] = timer
        else:
            connection.close()

    def close(self) -> None:
        """Hang up what is idle."""
        for connection, timer in self._idle.items():
            timer.cancel()
            connection.close()
        self._idle.clear()

    def _expire(self, connection: Connection) -> None:
        del self._idle[connection]
        connection.close()

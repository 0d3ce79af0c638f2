"""Connections to PostgreSQL with a bound on every wait."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from domain.errors import StoreUnavailable
from domain.eventstore.cancellable import Cancellable

CONNECT_TIMEOUT_S: Final = 1.0

OUT_OF_REACH: Final = (
    psycopg.OperationalError,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""The server is away, or gave up: that a session took too long is no OperationalError to psycopg."""

KEEPALIVES: Final[LiteralString] = """
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 1;
    SET tcp_keepalives_count = 3;
"""
"""The server notices within eight seconds that a client's machine has gone, and frees what it had locked."""

SESSION: Final[LiteralString] = (
    KEEPALIVES
    + """
    SET lock_timeout = '800ms';
    SET statement_timeout = '1500ms';
    SET idle_in_transaction_session_timeout = '1500ms';
    SET timezone = 'UTC';
    SET client_min_messages = 'error';
    SELECT set_config(name, '1500ms', false) FROM pg_settings WHERE name = 'transaction_timeout'
"""
)
"""The server gives up before our callers do, so that an abandoned transaction never holds the append lock.

A session between two messages of a pipeline is neither in a statement nor idle: only transaction_timeout
(PostgreSQL 17) ends that one, and before 17 the keep-alives do, once its client's machine is gone.
"""

READ_SESSION: Final[LiteralString] = SESSION + ";SET enable_bitmapscan = off;SET enable_seqscan = off"
"""Every list is read in the order of an index and stops at its limit. The planner, who cannot know how many
rows lie in a range of positions, would rather collect all of them and sort: as slow as the range is long."""


async def connect(
    conninfo: str, *, session: LiteralString = SESSION, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncConnection[TupleRow]:
    """A connection in autocommit mode. Raises StoreUnavailable within `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        async with asyncio.timeout_at(deadline):
            connection = await Cancellable.connect(
                watched(conninfo), autocommit=True, application_name="scim-ledger"
            )
        try:
            with cut_after(connection, deadline - asyncio.get_running_loop().time()):
                await connection.execute(session)
        except BaseException:  # also of a caller who no longer waits
            await connection.close()
            raise
    except (TimeoutError, *OUT_OF_REACH) as error:
        raise StoreUnavailable("the database does not accept connections") from error
    return connection


def watched(conninfo: str) -> str:
    """The same connection string, for connections that break when the server's machine has been gone for 8 s.

    One that only waits for an answer would wait for two hours.
    """
    return make_conninfo(
        conninfo, keepalives_idle=5, keepalives_interval=1, keepalives_count=3, tcp_user_timeout=3000
    )


@contextmanager
def cut_after(connection: AsyncConnection[Any], timeout_s: float) -> Iterator[None]:
    """Break the connection if the block takes longer than `timeout_s`.

    Cancelling a psycopg call asks the server to cancel and waits for it, which a hung server never answers.
    Shutting the socket down ends every wait at once, and the server sees the client gone.
    """
    timer = asyncio.get_running_loop().call_later(timeout_s, _shut_down, connection)
    try:
        yield
    finally:
        timer.cancel()


class KeptConnection:
    """One connection, kept while it works, replaced when it does not."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: AsyncConnection[TupleRow] | None = None

    async def get(self) -> AsyncConnection[TupleRow]:
        """The connection, alive as far as its socket tells. Raises StoreUnavailable."""
        if self._connection is None or not is_alive(self._connection):
            await self.drop()
            self._connection = await connect(self._conninfo)
        return self._connection

    async def drop(self) -> None:
        """Hang up; the next `get` connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def is_alive(connection: AsyncConnection[Any]) -> bool:
    """Whether the server has closed an idle connection, told by its socket alone: no round trip."""
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    return not connection.broken


def _shut_down(connection: AsyncConnection[Any]) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


class ReadPool:
    """A few connections for reads, opened when first needed and replaced when broken.

    There is no back-off: a request that finds the database away is refused, and the first one after its
    return is served. (psycopg-pool waits 1, 2, 4, 8 … s between attempts: 11.5 s until the first answer
    after an outage of 17 s.)
    """

    def __init__(self, conninfo: str, *, size: int = 4, timeout_s: float = 1.5) -> None:
        self.timeout_s = timeout_s
        self._conninfo = conninfo
        self._places = size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[AsyncConnection[TupleRow]] = []

    def connection(self) -> "Lease":
        """A connection for one query or a few. Raises StoreUnavailable when it breaks or takes too long."""
        return Lease(self)

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().close()

    async def take(self) -> AsyncConnection[TupleRow]:
        """For a lease: wait for a place, then a connection that is alive. Raises StoreUnavailable."""
        if self._places:
            self._places -= 1
        else:
            await self._wait_for_place()
        try:
            return self._live_idle() or await connect(self._conninfo, session=READ_SESSION)
        except BaseException:
            self._free_place()
            raise

    async def give_back(self, connection: AsyncConnection[TupleRow]) -> None:
        """From a lease: keep the connection if it can be used again, and let the next one in."""
        try:
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)
            else:  # in the middle of something, or broken
                await connection.close()
        finally:
            self._free_place()

    async def _wait_for_place(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self.timeout_s, _give_up, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came in the same moment
                self._free_place()
            raise
        finally:
            timer.cancel()

    def _free_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._places += 1

    def _live_idle(self) -> AsyncConnection[TupleRow] | None:
        while self._idle:
            connection = self._idle.pop()
            if is_alive(connection):
                return connection
        return None


class Lease:
    """A connection of the pool for the length of an `async with`.

    A class: two generators and a task per query, as context managers and `wait_for` make, cost a third of it.
    """

    __slots__ = ("_connection", "_pool", "_timer")

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> AsyncConnection[TupleRow]:
        self._connection = await self._pool.take()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pool.timeout_s, _shut_down, self._connection)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._pool.give_back(self._connection)
        if isinstance(error, OUT_OF_REACH):
            raise StoreUnavailable("the database did not answer") from error


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(StoreUnavailable("no connection became free in time"))

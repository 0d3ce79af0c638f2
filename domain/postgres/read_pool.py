"""Connections for reads, shared by the requests of one process."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from domain.errors import SharedSession, StoreUnavailable
from domain.instruments import ReadInstruments
from domain.postgres.cancellable_connection import Cancellable, cut_after, shut_down
from domain.postgres.connection import IDLED_S, OUT_OF_REACH, takes_writes
from domain.postgres.prepared_statement import NotExecuted, PreparedReads
from domain.postgres.primary import Primary
from domain.postgres.session import READING

PLANS_KEPT_S = 1.0
"""How long a connection keeps the plans of its statements.

To plan a page costs more than to read it. But a plan that was made while a table was empty, or held
the rows of another day, need not be the one for the rows of now.
"""
FORGET_PLANS: LiteralString = "DISCARD PLANS"
SOUNDED_WITHIN_S: Final = 0.5
"""What a connection that idled may take to forget them. Where it takes longer, what holds it has
lost the database behind it, and a fresh one is asked in the time that is left.
"""
STATEMENTS_MAX: Final = 200
"""Statements of a connection that is kept: of filters and their combinations there are many more.
"""


class Pooled:
    """A connection of the pool. generation: of the primary. planned_at: loop time since when its
    server may have kept plans.
    """

    __slots__ = ("connection", "generation", "planned_at", "statements")

    def __init__(self, connection: Cancellable, generation: int, planned_at: float) -> None:
        self.connection = connection
        self.generation = generation
        self.planned_at = planned_at
        self.statements = PreparedReads(connection)


class ReadPool:
    """A few connections for reads, opened when first needed and replaced when broken.

    There is no back-off: a request that finds the database away is refused, and the first one after
    its return is served. (psycopg-pool waits 1, 2, 4, 8 … s between attempts: 11.5 s until the
    first answer after an outage of 17 s.)

    They go to the server that takes writes, and to no other: a standby's answers are of the past.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        primary: Primary | None = None,
        size: int = 4,
        timeout_s: float = 1.5,
        instruments: ReadInstruments | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.primary = primary or Primary(conninfo)
        self.size = size
        self.instruments = instruments or ReadInstruments()
        self._slots = size
        self._is_closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[Pooled] = []

    def connection(self) -> "Lease":
        """A connection for one query or a few.

        Raises StoreUnavailable when it breaks or takes too long.
        """
        return Lease(self)

    async def fetch(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[TupleRow]:
        """The rows of one statement that only reads: where a kept connection turns out to be dead,
        or its server takes no writes any more, it is asked once more on a fresh one, in the same
        time. It is prepared, and values are written and taken as psycopg does.

        Raises StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        first = Lease(self)
        try:
            async with first:
                pooled = first.pooled
                kept_s = began_at - pooled.planned_at
                if kept_s >= PLANS_KEPT_S:
                    pooled.planned_at = began_at
                    within_s = SOUNDED_WITHIN_S if kept_s >= IDLED_S else self.timeout_s
                    with cut_after(pooled.connection, within_s):
                        await pooled.connection.execute(FORGET_PLANS)
                return await pooled.statements.rows(statement, parameters)
        except StoreUnavailable:
            left_s = began_at + self.timeout_s - loop.time()
            if not first.is_lost or left_s <= 0:
                raise
        second = Lease(self, is_fresh=True, timeout_s=left_s)
        async with second:
            return await second.pooled.statements.rows(statement, parameters)

    async def close(self) -> None:
        """Close what is idle, and what is given back from now on."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().connection.close()

    async def take(self, *, is_fresh: bool = False) -> Pooled:
        """For a lease: wait for a slot, then a connection that is alive.

        is_fresh: one that is made now. Raises StoreUnavailable.
        """
        asked_at = monotonic_ns()
        if self._slots:
            self._slots -= 1
        else:
            await self._wait_for_slot()
        self.instruments.in_use.add(1)
        self.instruments.pool_wait.observe((monotonic_ns() - asked_at) // 1000)
        try:
            idle = None if is_fresh else await self._live_idle()
            if idle is not None:
                return idle
            connection = await self.primary.connect(READING)
        except BaseException:
            self._end_lease()
            raise
        now = asyncio.get_running_loop().time()
        return Pooled(connection, self.primary.generation, now)

    async def give_back(self, pooled: Pooled, *, is_lost: bool) -> None:
        """From a lease: keep the connection if it can be used again, and let the next one in."""
        try:
            if (
                not is_lost
                and pooled.connection.pgconn.transaction_status == TransactionStatus.IDLE
                and pooled.generation == self.primary.generation
                and len(pooled.statements) < STATEMENTS_MAX
                and not self._is_closed
            ):
                self._idle.append(pooled)
            else:  # in the middle of something, broken, or of a server that was left
                await pooled.connection.close()
        finally:
            self._end_lease()

    async def _wait_for_slot(self) -> None:
        loop = asyncio.get_running_loop()
        lease: asyncio.Future[None] = loop.create_future()
        self._waiting.append(lease)
        timer = loop.call_later(self.timeout_s, _give_up, lease)
        try:
            await lease
        except StoreUnavailable:
            self.instruments.timed_out.add("connection")
            raise
        except asyncio.CancelledError:
            if not lease.cancelled() and lease.exception() is None:  # its turn came meanwhile
                self._free_slot()
            raise
        finally:
            timer.cancel()

    def _end_lease(self) -> None:
        self.instruments.in_use.add(-1)
        self._free_slot()

    def _free_slot(self) -> None:
        while self._waiting:
            lease = self._waiting.popleft()
            if not lease.done():
                lease.set_result(None)
                return
        self._slots += 1

    async def _live_idle(self) -> Pooled | None:
        while self._idle:
            pooled = self._idle.pop()
            if pooled.generation == self.primary.generation and pooled.connection.is_alive():
                return pooled
            await pooled.connection.close()
        return None


class Lease:
    """A connection of the pool for the length of an `async with`.

    is_lost: afterwards, whether it broke, or its server takes no writes any more. The server tells
    that with the end of an answer, so asking costs nothing, and the answer itself is not to be
    believed. pooled: what was lent, from when it is.

    A class: two generators and a task per query, as context managers and `wait_for` make, cost a
    third of it.
    """

    __slots__ = ("_is_fresh", "_pool", "_timeout_s", "_timer", "is_lost", "pooled")
    pooled: Pooled

    def __init__(
        self, pool: ReadPool, *, is_fresh: bool = False, timeout_s: float | None = None
    ) -> None:
        self._pool = pool
        self._is_fresh = is_fresh
        self._timeout_s = pool.timeout_s if timeout_s is None else timeout_s
        self.is_lost = False

    async def __aenter__(self) -> Cancellable:
        self.pooled = await self._pool.take(is_fresh=self._is_fresh)
        connection = self.pooled.connection
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout_s, shut_down, connection)
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        connection = self.pooled.connection
        is_writable = takes_writes(connection)
        is_strange = isinstance(error, psycopg.errors.InvalidSqlStatementName)
        self.is_lost = connection.closed or not is_writable or isinstance(error, NotExecuted)
        try:
            if not is_writable and (error is None or isinstance(error, psycopg.Error)):
                raise self._pool.primary.lost()
            if is_strange:
                raise SharedSession from error
            if isinstance(error, OUT_OF_REACH):
                self._pool.instruments.timed_out.add("database")
                raise StoreUnavailable("the database did not answer") from error
        finally:
            await self._pool.give_back(self.pooled, is_lost=self.is_lost or is_strange)


def _give_up(lease: "asyncio.Future[None]") -> None:
    if not lease.done():
        lease.set_exception(StoreUnavailable("no connection became free in time"))

"""Connections to PostgreSQL with a bound on every wait."""

import asyncio
import os
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, LiteralString, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from domain.errors import PepperMismatch, StoreReadOnly, StoreUnavailable, WrongEncoding
from domain.eventstore.peppers import mismatch_of, requirement
from domain.postgres.cancellable_connection import Cancellable
from domain.postgres.session import COMMAND, READING, SERVING, Session, each_host, stated
from domain.postgres.unusable_reasons import TAKES_NO_WRITES, reason
from domain.secret import Pepper

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 1.0

OUT_OF_REACH: Final = (
    psycopg.OperationalError,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""The server is away, gave up, or takes no writes: to psycopg, not all are OperationalErrors."""

IN_DOUBT: Final = "the database warned in a commit: it may not be on the standby"

logger = structlog.get_logger()


async def connect(
    conninfo: str,
    *,
    session: Session = SERVING,
    requires: bytes | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> AsyncConnection[TupleRow]:
    """A connection in autocommit mode that has stated all we rely on.

    requires: a statement that refuses it where the ledger is not ours (`peppers.py`).
    Raises PepperMismatch, WrongEncoding, StoreReadOnly and StoreUnavailable within `timeout_s`.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        connection = await _reach(each_host(stated(conninfo)), deadline)
        try:
            with cut_after(connection, deadline - asyncio.get_running_loop().time()):
                stating = _statements(connection.pgconn, session)
                await connection.execute(stating if requires is None else stating + b";" + requires)
        except BaseException:  # also of a caller who no longer waits
            await connection.close()
            raise
    except (TimeoutError, psycopg.Error) as error:
        raise mismatch_of(error) or unavailable(error) from error
    return connection


async def _reach(hosts: Sequence[str], deadline: float) -> Cancellable:
    """A connection to the first host that takes writes.

    Each has its share of the time: one that swallows everything must not use up that of the next.
    """
    loop = asyncio.get_running_loop()
    errors: list[Exception] = []
    for number, host in enumerate(hosts):
        share_s = (deadline - loop.time()) / (len(hosts) - number)
        try:
            async with asyncio.timeout(share_s):
                return await Cancellable.connect(host, autocommit=True)
        except (TimeoutError, psycopg.Error) as error:
            errors.append(error)
    # That a standby answers says more than that another host does not.
    raise next((error for error in errors if reason(error) == TAKES_NO_WRITES), errors[-1])


def open_connection(
    conninfo: str,
    *,
    session: Session = COMMAND,
    is_autocommit: bool = True,
    is_examined: bool = False,
    timeout_s: int = 5,
) -> psycopg.Connection[TupleRow]:
    """The same for a program that may wait.

    timeout_s: for one host; the statements afterwards have none.

    is_examined: for the doctor; a standby will do, and a database in another encoding, too.
    Raises WrongEncoding, StoreReadOnly and StoreUnavailable.
    """
    try:
        connection = psycopg.connect(
            stated(conninfo, needs_writes=not is_examined),
            autocommit=True,
            connect_timeout=timeout_s,
        )
        try:
            with suppress(*([WrongEncoding] if is_examined else [])):
                configure(connection, session)
            connection.autocommit = is_autocommit
        except BaseException:
            connection.close()
            raise
    except psycopg.Error as error:
        raise unavailable(error) from error
    return connection


def configure(connection: psycopg.Connection[Any], session: Session = COMMAND) -> None:
    """State what we rely on, on a connection that another's pool has made;
    it must be in autocommit mode.
    """
    connection.execute(_statements(connection.pgconn, session))


def require_utf8(pgconn: PGconn) -> None:
    """Raise WrongEncoding unless the database is in UTF-8."""
    encoding = pgconn.parameter_status(b"server_encoding") or b"unknown"
    if encoding != b"UTF8":
        raise WrongEncoding(encoding.decode())


def _statements(pgconn: PGconn, session: Session) -> bytes:
    """What the session states.

    Raises WrongEncoding: to some databases UTF-8 cannot even be stated.
    """
    require_utf8(pgconn)
    return session.statements(pgconn.server_version)


def unavailable(error: BaseException) -> StoreUnavailable:
    """The refusal that an error of psycopg's amounts to, in words that may be shown."""
    said = reason(error)
    return (StoreReadOnly if said == TAKES_NO_WRITES else StoreUnavailable)(said)


@contextmanager
def cut_after(connection: AsyncConnection[Any], timeout_s: float) -> Iterator[None]:
    """Break the connection if the block takes longer than `timeout_s`.

    Cancelling a psycopg call asks the server to cancel and waits for it, which a hung server never
    answers. Shutting the socket down ends every wait at once, and the server sees the client gone.
    """
    timer = asyncio.get_running_loop().call_later(timeout_s, _shut_down, connection)
    try:
        yield
    finally:
        timer.cancel()


class Primary:
    """The server that one process appends to and reads from, as its connections know it.

    Once one of them learns that its server takes no writes any more, all that were made before are
    closed: a read from the server of yesterday finds neither the tokens of today nor what was
    revoked.

    pepper: the keys that the ledger there must have been written with, None for who digests
    nothing. generation: of the connections that may be used. One line of the log tells when writes
    stop and when they are back.
    """

    def __init__(self, conninfo: str, *, pepper: Pepper | None = None) -> None:
        self.generation = 0
        self._conninfo = conninfo
        self._pepper = pepper
        self._has_begun = False
        self._takes_writes = True
        self._has_our_pepper = True

    async def connect(self, session: Session) -> AsyncConnection[TupleRow]:
        """A connection of this generation.

        Raises PepperMismatch, StoreReadOnly, StoreUnavailable.
        """
        pepper = self._pepper
        requires = None if pepper is None else requirement(pepper, may_lack_newer=self._has_begun)
        try:
            connection = await connect(self._conninfo, session=session, requires=requires)
        except StoreReadOnly:
            self.lost()
            raise
        except PepperMismatch as mismatch:
            if self._has_our_pepper:
                self._has_our_pepper = False
                logger.error("pepper.refused", reason=str(mismatch))  # noqa: TRY400
            raise
        self._has_begun = self._has_our_pepper = True
        if not self._takes_writes:
            self._takes_writes = True
            logger.warning("store.takes_writes_again")
        return connection

    def lost(self) -> StoreReadOnly:
        """The server of this generation takes no writes; what to raise."""
        self.generation += 1
        if self._takes_writes:
            self._takes_writes = False
            logger.error("store.takes_no_writes", reason=TAKES_NO_WRITES)
        return StoreReadOnly(TAKES_NO_WRITES)


class KeptConnection:
    """One connection for appends, kept while it works, replaced when it does not."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._generation = primary.generation
        self._connection: AsyncConnection[TupleRow] | None = None
        self._is_in_doubt = False

    async def get(self) -> AsyncConnection[TupleRow]:
        """The connection, alive as far as its socket tells. Raises StoreUnavailable."""
        connection = self._connection
        if (
            connection is None
            or self._generation != self._primary.generation
            or not is_alive(connection)
        ):
            await self.drop()
            self._connection = connection = await self._primary.connect(SERVING)
            self._generation = self._primary.generation
            connection.add_notice_handler(self._noticed)
        self._is_in_doubt = False
        return connection

    def confirm(self) -> None:
        """Raise StoreUnavailable where what the server said since `get` is not to be believed.

        A wait for a synchronous standby that is cancelled ends in a warning and a success: the
        commit is on this server and on no other. And a server that takes no writes any more decides
        on what was.
        """
        if self._is_in_doubt:
            raise StoreUnavailable(IN_DOUBT)
        if self._connection is not None and not takes_writes(self._connection):
            raise self._primary.lost()

    async def drop(self, error: BaseException | None = None) -> None:
        """Hang up; the next `get` connects anew. error: the reason, if it failed.

        A server that takes no writes is left by every connection of the process.
        """
        connection, self._connection = self._connection, None
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._primary.lost()
        if connection is not None:
            await connection.close()

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        self._is_in_doubt |= notice.severity_nonlocalized == "WARNING"


def is_alive(connection: AsyncConnection[Any]) -> bool:
    """Whether an idle connection can be used, told by its socket alone:
    one system call, no round trip.

    A server has nothing to say to who is idle but its farewell, and behind that comes the end,
    which reading the farewell does not show.
    """
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return not poll.poll(0)


def takes_writes(connection: AsyncConnection[Any] | psycopg.Connection[Any]) -> bool:
    """What the server last reported, with its answers: no round trip.

    A closed one tells nothing.
    """
    if connection.closed:
        return True
    status = connection.pgconn.parameter_status
    return status(b"in_hot_standby") != b"on" and status(b"default_transaction_read_only") != b"on"


def require_writes(connection: psycopg.Connection[Any]) -> None:
    """Raise StoreReadOnly where the server has told this connection that it takes no writes."""
    if not takes_writes(connection):
        raise StoreReadOnly(TAKES_NO_WRITES)


def _shut_down(connection: AsyncConnection[Any]) -> None:
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)


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
    ) -> None:
        self.timeout_s = timeout_s
        self.primary = primary or Primary(conninfo)
        self._places = size
        self._is_closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[tuple[int, AsyncConnection[TupleRow]]] = []

    def connection(self) -> "Lease":
        """A connection for one query or a few.

        Raises StoreUnavailable when it breaks or takes too long.
        """
        return Lease(self)

    async def read(self, ask: Callable[[AsyncConnection[TupleRow]], Awaitable[T]]) -> T:
        """What `ask` answers on a connection. It only reads: where a kept connection turns out to
        be dead, or its server takes no writes any more, it is asked once more on a fresh one, in
        the same time.

        Raises StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout_s
        first = Lease(self)
        try:
            async with first as connection:
                return await ask(connection)
        except StoreUnavailable:
            left_s = deadline - loop.time()
            if not first.is_lost or left_s <= 0:
                raise
        async with Lease(self, is_fresh=True, timeout_s=left_s) as connection:
            return await ask(connection)

    async def fetch(
        self,
        statement: LiteralString,
        parameters: Sequence[Any] = (),
        *,
        prepare: bool | None = None,
        binary: bool = False,
    ) -> list[TupleRow]:
        """The rows of one statement that only reads; as `read`."""

        async def ask(connection: AsyncConnection[TupleRow]) -> list[TupleRow]:
            cursor = await connection.execute(statement, parameters, prepare=prepare, binary=binary)
            return await cursor.fetchall()

        return await self.read(ask)

    async def close(self) -> None:
        """Close what is idle, and what is given back from now on."""
        self._is_closed = True
        while self._idle:
            _, connection = self._idle.pop()
            await connection.close()

    async def take(self, *, is_fresh: bool = False) -> tuple[int, AsyncConnection[TupleRow]]:
        """For a lease: wait for a place, then a connection that is alive, and its generation.

        is_fresh: one that is made now. Raises StoreUnavailable.
        """
        if self._places:
            self._places -= 1
        else:
            await self._wait_for_place()
        try:
            idle = None if is_fresh else await self._live_idle()
            if idle is not None:
                return idle
            connection = await self.primary.connect(READING)
        except BaseException:
            self._free_place()
            raise
        return self.primary.generation, connection

    async def give_back(self, generation: int, connection: AsyncConnection[TupleRow]) -> None:
        """From a lease: keep the connection if it can be used again, and let the next one in."""
        try:
            if (
                connection.pgconn.transaction_status == TransactionStatus.IDLE
                and generation == self.primary.generation
                and not self._is_closed
            ):
                self._idle.append((generation, connection))
            else:  # in the middle of something, broken, or of a server that was left
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

    async def _live_idle(self) -> tuple[int, AsyncConnection[TupleRow]] | None:
        while self._idle:
            generation, connection = self._idle.pop()
            if generation == self.primary.generation and is_alive(connection):
                return generation, connection
            await connection.close()
        return None


class Lease:
    """A connection of the pool for the length of an `async with`.

    is_lost: afterwards, whether it broke, or its server takes no writes any more. The server tells
    that with the end of an answer, so asking costs nothing, and the answer itself is not to be
    believed.

    A class: two generators and a task per query, as context managers and `wait_for` make, cost a
    third of it.
    """

    __slots__ = (
        "_connection",
        "_generation",
        "_is_fresh",
        "_pool",
        "_timeout_s",
        "_timer",
        "is_lost",
    )

    def __init__(
        self, pool: ReadPool, *, is_fresh: bool = False, timeout_s: float | None = None
    ) -> None:
        self._pool = pool
        self._is_fresh = is_fresh
        self._timeout_s = pool.timeout_s if timeout_s is None else timeout_s
        self.is_lost = False

    async def __aenter__(self) -> AsyncConnection[TupleRow]:
        self._generation, self._connection = await self._pool.take(is_fresh=self._is_fresh)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout_s, _shut_down, self._connection)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        is_writable = takes_writes(self._connection)
        self.is_lost = self._connection.closed or not is_writable
        try:
            if not is_writable and (error is None or isinstance(error, psycopg.Error)):
                raise self._pool.primary.lost()
            if isinstance(error, OUT_OF_REACH):
                raise StoreUnavailable("the database did not answer") from error
        finally:
            await self._pool.give_back(self._generation, self._connection)


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(StoreUnavailable("no connection became free in time"))

"""Connections to PostgreSQL with a bound on every wait."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from secrets import randbits
from typing import Any, Final, LiteralString, Protocol, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from domain.errors import (
    LedgerError,
    StoreReadOnly,
    StoreUnavailable,
    WrongEncoding,
    without_frames,
)
from domain.postgres.cancellable_connection import Cancellable, cut_after
from domain.postgres.hosts import reach, reach_by
from domain.postgres.session import (
    AT_WORK,
    COMMAND,
    OWN_SESSION,
    SERVING,
    WAITS_FOR_STANDBY,
    Session,
    stated,
)
from domain.postgres.trouble.beside_wait import Looker, looked_after
from domain.postgres.trouble.late_commit import LateCommit
from domain.postgres.trouble.lost_session import AnswerLost, LostSession
from domain.postgres.trouble.unusable_reasons import GIVEN_UP, TAKES_NO_WRITES, is_lost, reason

T = TypeVar("T")
CONNECT_TIMEOUT_S: Final = 1.0
IDLED_S: Final = 3.0
"""After so long nobody knows whether what holds a connection still has the database behind it."""

OUT_OF_REACH: Final = (
    psycopg.OperationalError,
    *GIVEN_UP,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InvalidSqlStatementName,
)
"""The server is away, gave up, or takes no writes, or the session is another one (`name_apart`):
to psycopg, not all are OperationalErrors.
"""


class Requirement(Protocol):
    """What the database behind a connection must be, besides one that takes writes."""

    def statement(self) -> bytes:
        """The statement that tells, to be sent with the settings of the session."""

    def is_met(self) -> None:
        """Called when the server has accepted it."""

    def refusal(self, error: BaseException) -> LedgerError | None:
        """What to raise where it is not met; None for every other error."""


async def connect(
    conninfo: str,
    *,
    session: Session = SERVING,
    requires: Sequence[Requirement] = (),
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Cancellable:
    """A connection in autocommit mode that has stated all we rely on.

    Raises what `requires` refuses, WrongEncoding, StoreReadOnly, StoreUnavailable in `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    try:
        connection = await reach_by(
            deadline, conninfo, lambda host: Cancellable.connect(stated(host), autocommit=True)
        )
        try:
            name_apart(connection)
            with cut_after(connection, deadline - loop.time()):
                stating = [_statements(connection.pgconn, session)]
                stating += [each.statement() for each in requires]
                await connection.execute(b";".join(stating))
        except BaseException as error:  # also of a caller who no longer waits
            await connection.close()
            if is_lost(error) and loop.time() >= deadline:  # cut by us, which libpq cannot tell
                raise TimeoutError from without_frames(error)
            raise
    except (TimeoutError, psycopg.Error) as error:
        refusals = (each.refusal(error) for each in requires)
        raise next(filter(None, refusals), None) or unavailable(error) from error
    for each in requires:
        each.is_met()
    return connection


class Bounded(psycopg.Connection[TupleRow]):
    """A connection of a program that may wait; it breaks when an answer does not come in time.

    The server's time-outs end what it works on, and keep-alives find a machine that has gone.
    Neither helps where a pooler or a proxy holds the connection and has lost what is behind it.

    answer_within_s: for each call of the library, seconds; None for no limit: then `LateCommit` and
    `LostSession` look. conninfo: of its server, to be asked beside it. session: which it is there.
    """

    answer_within_s: float | None = None
    conninfo: str | None = None
    session: TupleRow | None = None

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """The library's hook: every wait of its own for the server goes through here."""
        is_ours = timeout is None and self.answer_within_s is not None
        if timeout is None and not is_ours and self.conninfo is not None:
            lookers: list[Looker] = [LateCommit(partial(is_true, self.conninfo, WAITS_FOR_STANDBY))]
            if self.session is not None:
                lookers.append(LostSession(partial(is_true, self.conninfo, AT_WORK, self.session)))
            gen = looked_after(gen, *lookers)
        try:
            return super().wait(
                gen, interval=interval, timeout=self.answer_within_s if is_ours else timeout
            )
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - to be told, says the library
            if not is_ours:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError("no answer came in time") from error
        except AnswerLost:
            self.pgconn.finish()
            raise
        except psycopg.InternalError as error:
            if error.sqlstate is not None:
                raise
            # Of the library itself: a farewell stood behind the answer, for one.
            self.pgconn.finish()
            raise psycopg.OperationalError("server closed the connection") from error


@contextmanager
def answered_within(connection: psycopg.Connection[Any], timeout_s: float) -> Iterator[None]:
    """Each call in the block is answered within so many seconds, or breaks a `Bounded`."""
    if not isinstance(connection, Bounded):
        yield
        return
    before, connection.answer_within_s = connection.answer_within_s, timeout_s
    try:
        yield
    finally:
        connection.answer_within_s = before


def open_connection(
    conninfo: str,
    *,
    session: Session = COMMAND,
    is_autocommit: bool = True,
    is_examined: bool = False,
    timeout_s: int = 5,
) -> Bounded:
    """The same for a program that may wait.

    timeout_s: for one host, and for the first answer, which a pooler without a free connection owes
    although it has let us in; for the statements afterwards the session's limits hold on this side,
    too.

    is_examined: for the doctor; a standby will do, and a database in another encoding, too.
    Raises WrongEncoding, StoreReadOnly and StoreUnavailable.
    """
    try:
        connection = reach(
            conninfo,
            lambda host: Bounded.connect(
                stated(host, needs_writes=not is_examined, unsent_ms=session.unsent_ms),
                autocommit=True,
                connect_timeout=timeout_s,
            ),
        )
        try:
            with (
                answered_within(connection, timeout_s),
                suppress(*([WrongEncoding] if is_examined else [])),
            ):
                configure(connection, session)
                if session.answer_within_s is None and not is_examined:
                    connection.session = connection.execute(OWN_SESSION, prepare=False).fetchone()
            connection.autocommit = is_autocommit
            connection.answer_within_s = session.answer_within_s
            connection.conninfo = conninfo
        except BaseException:
            connection.close()
            raise
    except psycopg.Error as error:
        raise unavailable(error) from without_frames(error)
    return connection


def is_true(conninfo: str, statement: LiteralString, given: TupleRow = ()) -> bool | None:
    """Whether the server that takes writes says so, asked on a connection of its own.

    False also where it returns no row; None where it cannot be asked.
    """
    try:
        with open_connection(conninfo, session=SERVING, timeout_s=2) as beside:
            return beside.execute(statement, given).fetchone() == (True,)
    except (LedgerError, psycopg.Error):
        return None


def configure(connection: psycopg.Connection[Any], session: Session = COMMAND) -> None:
    """State what we rely on, on a connection of another's pool, which is in autocommit mode."""
    name_apart(connection)
    connection.execute(_statements(connection.pgconn, session))


def name_apart(connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> None:
    """Let psycopg call no statement that it prepares as another connection has called one.

    A pooler that has been set to another mode gives us a stranger's session: there our names must
    find nothing, and not another statement. psycopg itself counts from 0.
    """
    connection._prepared._prepared_idx = randbits(48)  # noqa: SLF001 - it has no other way


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

"""One prepared statement, run by libpq without a cursor: the one that records uses.

A psycopg cursor costs about as much per call as the whole batch: it adapts every parameter and
builds every row. Here a parameter is a ready binary value, and a result is read where it lies. Same
connection, same wait on the event loop; psycopg's own interface is free for everything else between
two calls.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from domain.postgres.cancellable_connection import Cancellable


class NotExecuted(psycopg.OperationalError):
    """The statement surely had no effect, and would have one on another connection."""


_BEFORE_IT: Final = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.IdleSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""The server's refusals that concern the connection and not the statement."""


class PreparedStatement:
    """A statement prepared on one connection at its first call.

    Raises NotExecuted; psycopg.OperationalError when the connection breaks in the middle, and
    psycopg's own errors for the server's.
    """

    def __init__(self, connection: Cancellable, name: str, statement: str) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._name = name.encode()
        self._statement = statement.encode()
        self._is_prepared = False
        self._done: asyncio.Future[PGresult] | None = None
        self._written: int | None = None

    def is_on(self, connection: Cancellable) -> bool:
        """Whether it is prepared on this connection."""
        return self._connection is connection

    async def __call__(self, parameters: Sequence[bytes]) -> PGresult:
        """Execute with binary parameters, in a transaction of its own unless one is open;
        binary result.
        """
        if not self._is_prepared:
            try:
                self._pgconn.send_prepare(self._name, self._statement)
                await self._result(ExecStatus.COMMAND_OK)
            except psycopg.OperationalError as error:
                raise NotExecuted(str(error)) from error
            self._is_prepared = True
        self._pgconn.send_query_prepared(
            self._name, parameters, [Format.BINARY] * len(parameters), result_format=Format.BINARY
        )
        try:
            return await self._result(ExecStatus.TUPLES_OK)
        except _BEFORE_IT as error:
            # As the first that came back: what ended the session in the commit comes behind the
            # rows.
            if self._results == 1:
                raise NotExecuted(str(error)) from error
            raise

    async def _result(self, expected: ExecStatus) -> PGresult:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[PGresult] = loop.create_future()
        self._done = done
        self._received: PGresult | None = None
        self._results = 0
        try:
            if self._pgconn.flush():
                self._written = self._pgconn.socket
                loop.add_writer(self._written, self._write)
            self._connection.listen(self._read)
            result = await done
        except BaseException:  # also of a caller who no longer waits
            self._unwatch()
            raise
        finally:
            self._done = None
        if result.status != expected:
            raise psycopg.errors.error_from_result(result)
        return result

    def _unwatch(self) -> None:
        """Stop waiting for the socket, before its number may be another's."""
        self._connection.stop_listening()
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._written is not None:
            asyncio.get_running_loop().remove_writer(self._written)
            self._written = None

    def _write(self) -> None:
        try:
            if not self._pgconn.flush():
                self._stop_writing()
        except psycopg.Error as error:
            self._unwatch()
            self._fail(error)

    def _read(self) -> None:
        if self._done is None:
            # A farewell, which stays where it is: it tells who asks next that this server is gone.
            self._unwatch()
            return
        try:
            self._pgconn.consume_input()
            # Asked before every call: get_result blocks the whole loop while the rest is still
            # under way.
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._finish()
                    return
                self._received = result
                self._results += 1
        except psycopg.Error as error:
            self._unwatch()
            if (
                self._results
                and self._received is not None
                and self._received.status == ExecStatus.FATAL_ERROR
            ):
                self._finish()  # the server said why it ends the connection
            else:
                self._fail(error)

    def _finish(self) -> None:
        if self._received is None:
            self._fail(psycopg.OperationalError("the connection returned nothing"))
        elif self._done is not None and not self._done.done():
            self._done.set_result(self._received)

    def _fail(self, error: psycopg.Error) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

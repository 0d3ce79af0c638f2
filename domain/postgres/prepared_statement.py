"""One prepared statement, run by libpq without a cursor: the one that records uses.

A psycopg cursor costs about as much per call as the whole batch: it adapts every parameter and
builds every row. Here a parameter is a ready binary value, and a result is read where it lies. Same
connection, same wait on the event loop; psycopg's own interface is free for everything else between
two calls.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult


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

    def __init__(self, connection: AsyncConnection[Any], name: str, statement: str) -> None:
        self._pgconn = connection.pgconn
        self._name = name.encode()
        self._statement = statement.encode()
        self._is_prepared = False
        self._watched: int | None = None

    def is_on(self, connection: AsyncConnection[Any]) -> bool:
        """Whether it is prepared on this connection."""
        return self._pgconn is connection.pgconn

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
        self._received: PGresult | None = None
        self._results = 0
        self._watched = self._pgconn.socket
        if self._pgconn.flush():
            loop.add_writer(self._watched, self._write, loop, done)
        loop.add_reader(self._watched, self._read, done)
        try:
            result = await done
        finally:
            self._unwatch()
        if result.status != expected:
            raise psycopg.errors.error_from_result(result)
        return result

    def _unwatch(self) -> None:
        """Stop waiting for the socket.

        For a dead connection at once, in the same callback: libpq has closed its socket by then,
        and the next one that the process opens or accepts gets the same number.
        """
        watched, self._watched = self._watched, None
        if watched is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(watched)
            loop.remove_writer(watched)

    def _write(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[PGresult]) -> None:
        try:
            if not self._pgconn.flush():
                loop.remove_writer(self._pgconn.socket)
        except psycopg.Error as error:
            self._unwatch()
            _fail(done, error)

    def _read(self, done: asyncio.Future[PGresult]) -> None:
        try:
            self._pgconn.consume_input()
            # Asked before every call: get_result blocks the whole loop while the rest is still
            # under way.
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._finish(done)
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
                self._finish(done)  # the server said why it ends the connection
            else:
                _fail(done, error)

    def _finish(self, done: asyncio.Future[PGresult]) -> None:
        if self._received is None:
            _fail(done, psycopg.OperationalError("the connection returned nothing"))
        elif not done.done():
            done.set_result(self._received)


def _fail(done: asyncio.Future[PGresult], error: psycopg.Error) -> None:
    if not done.done():
        done.set_exception(error)

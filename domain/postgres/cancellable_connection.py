"""A connection that closes its socket when a call is cancelled, and that answers libpq's calls;
and how any is cut off.
"""

import asyncio
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

T = TypeVar("T")


class Cancellable(AsyncConnection[TupleRow]):
    """Whoever cancels a call is not held up, and neither is the place that the connection takes.

    The library asks the server to cancel, over a second connection, and waits up to ten seconds for
    the first one to say so. A server that hangs does neither; one that does not sees that its
    client is gone, and by its own time-outs nothing of ours runs for long.

    Between two of the library's calls, what was sent through `pgconn` is waited for by `answer`.

    results: how many the last answer consists of, so far.
    """

    results = 0
    _received: PGresult | None = None
    _answer: asyncio.Future[PGresult] | None = None
    _heard: int | None = None
    _written: int | None = None
    _poll: "select.poll | None" = None

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:  # noqa: ASYNC109 - the library calls it so
        """The library's hook: every wait of its own for the server goes through here."""
        self._stop_listening()
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

    async def close(self) -> None:
        """Close it, and its socket with it."""
        self._stop_listening()
        await super().close()

    def is_alive(self) -> bool:
        """Whether it can be used while it is idle, told by its socket alone:
        one system call, no round trip.

        A server has nothing to say to who is idle but its farewell, and behind that comes the end,
        which reading the farewell does not show.
        """
        return not self.closed and not self._has_more()

    async def answer(self) -> PGresult:
        """The last result of the one call that was sent through `pgconn`, whatever it says.

        Raises psycopg.OperationalError when the connection breaks in the middle.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PGresult] = loop.create_future()
        self._answer, self._received, self.results = answer, None, 0
        try:
            if self.pgconn.flush():
                self._written = self.pgconn.socket
                loop.add_writer(self._written, self._write)
            if self._heard is None:
                # Once: to begin and to stop are five system calls, too many for each call.
                self._heard = self.pgconn.socket
                loop.add_reader(self._heard, self._read)
            return await answer
        except BaseException:  # also of a caller who no longer waits
            self._stop_listening()
            raise
        finally:
            self._answer = None
            del answer  # it may hold the error that is raised here, and that this frame

    def give_up(self) -> None:
        """End the wait for an answer, whether or not the loop still hears of the socket."""
        self._break(psycopg.OperationalError("no answer came in time"))

    def _has_more(self) -> bool:
        """Whether there is something to read, or the end."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, select.POLLIN)
        return bool(self._poll.poll(0))

    def _stop_listening(self) -> None:
        """Leave the socket alone.

        Of a dead connection at once, in the same callback: libpq has closed it by then, and the
        next one that the process opens or accepts gets the same number.
        """
        if self._heard is not None:
            asyncio.get_running_loop().remove_reader(self._heard)
            self._heard = None
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._written is not None:
            asyncio.get_running_loop().remove_writer(self._written)
            self._written = None

    def _write(self) -> None:
        try:
            if not self.pgconn.flush():
                self._stop_writing()
        except psycopg.Error as error:
            self._break(error)

    def _read(self) -> None:
        if self._answer is None:
            # A farewell, which stays where it is: it tells who asks next that this server is gone.
            self._stop_listening()
            return
        try:
            # To the end of what has come. A server that left with our question unread says farewell
            # and resets the connection: uvloop tells of both at once, and never again.
            while True:
                self.pgconn.consume_input()
                # Asked before every call: get_result blocks the whole loop while the rest is still
                # under way.
                while not self.pgconn.is_busy():
                    result = self.pgconn.get_result()
                    if result is None:
                        self._finish()
                        return
                    self._received = result
                    self.results += 1
                if not self._has_more():
                    return
        except psycopg.Error as error:
            self._break(error)

    def _break(self, error: psycopg.Error) -> None:
        self._stop_listening()
        if self._received is not None and self._received.status == ExecStatus.FATAL_ERROR:
            self._finish()  # the server said why it ends the connection
        else:
            self._fail(error)

    def _finish(self) -> None:
        if self._received is None:
            self._fail(psycopg.OperationalError("the connection returned nothing"))
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(self._received)

    def _fail(self, error: psycopg.Error) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


@contextmanager
def cut_after(connection: AsyncConnection[Any], timeout_s: float) -> Iterator[None]:
    """Break the connection if the block takes longer than `timeout_s`.

    Cancelling a psycopg call asks the server to cancel and waits for it, which a hung server never
    answers. Shutting the socket down ends every wait at once, and the server sees the client gone.
    """
    timer = asyncio.get_running_loop().call_later(timeout_s, shut_down, connection)
    try:
        yield
    finally:
        timer.cancel()


def shut_down(connection: AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """End every wait on a connection at once; the server sees the client gone."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)
    if isinstance(connection, Cancellable):
        connection.give_up()

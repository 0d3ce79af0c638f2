"""A connection that closes its socket when a call is cancelled, and that can be listened to."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

T = TypeVar("T")


class Cancellable(AsyncConnection[TupleRow]):
    """Whoever cancels a call is not held up, and neither is the place that the connection takes.

    The library asks the server to cancel, over a second connection, and waits up to ten seconds for
    the first one to say so. A server that hangs does neither; one that does not sees that its
    client is gone, and by its own time-outs nothing of ours runs for long.
    """

    _listener: Callable[[], None] | None = None
    _listened_to = -1

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:  # noqa: ASYNC109 - the library calls it so
        """The library's hook: every wait for the server goes through here."""
        self.stop_listening()
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

    def listen(self, on_readable: Callable[[], None]) -> None:
        """Call `on_readable`, and nobody else, whenever the server may have said something, until
        `stop_listening` or the library's next call.

        To begin and to stop are five system calls, too many for each batch of uses: whoever listens
        already goes on.
        """
        if self._listener == on_readable:
            return
        self.stop_listening()
        number = self.pgconn.socket
        asyncio.get_running_loop().add_reader(number, on_readable)
        self._listener, self._listened_to = on_readable, number

    def stop_listening(self) -> None:
        """Call nobody any more.

        For a dead connection at once, in the same callback: libpq has closed its socket by then,
        and the next one that the process opens or accepts gets the same number.
        """
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listened_to)
            self._listener = None

    async def close(self) -> None:
        """Close it, and its socket with it."""
        self.stop_listening()
        await super().close()

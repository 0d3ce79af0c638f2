"""A connection that closes its socket when a call of it is cancelled."""

import asyncio
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

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:  # noqa: ASYNC109 - the library calls it so
        """The library's hook: every wait for the server goes through here."""
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

"""The ledger's head, watched by one poll for however many wait for it."""

import asyncio
from contextlib import suppress
from typing import Final

import psycopg

from domain.errors import Unavailable
from domain.postgres.read_pool import ReadPool
from projections.follow.read_log import HEAD

POLL_S: Final = 0.1


class LedgerHeadWatch:
    """Lets many wait for the next event. The database is asked only while somebody does.

    is_leaving: the process is about to end, and what takes long should, too.
    """

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool
        self._moved = asyncio.Condition()
        self._head = 0
        self._waiting = 0
        self.is_leaving = False
        self._poll: asyncio.Task[None] | None = None
        self._goodbye: asyncio.Task[None] | None = None

    async def now(self) -> int:
        """The last position of the ledger, 0 when it is empty. Raises StoreUnavailable."""
        ((ledger_head,),) = await self._pool.fetch(HEAD)
        assert isinstance(ledger_head, int)
        return ledger_head

    async def beyond(self, position: int, *, timeout_s: float) -> bool:
        """Whether the ledger got beyond `position` within `timeout_s`.

        An outage counts as no news, and so does whatever else the database refuses.
        """
        self._waiting += 1
        if self._poll is None or self._poll.done():
            self._poll = asyncio.get_running_loop().create_task(self._follow())
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._head > position or self.is_leaving)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return self._head > position

    def leave(self) -> None:
        """Let everybody go: the process is about to end."""
        self.is_leaving = True
        self._goodbye = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _follow(self) -> None:
        while self._waiting:
            with suppress(Unavailable, psycopg.Error):  # whoever asks for a row is told why
                ledger_head = await self.now()
                if ledger_head > self._head:
                    self._head = ledger_head
                    await self._tell()
            await asyncio.sleep(POLL_S)

"""Count refused presentations that name no token, and write them every few seconds as tallies.

A known token's refusal is an event of its own (`ScimToken.refuse`); what is counted here may come
in floods from anybody, and must cost neither memory nor an event each.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

import structlog

from domain.commands import CommandKey
from domain.errors import Unavailable
from domain.instruments import NOT_COUNTED, Counter
from domain.ledger import TokenLedger
from domain.refusals.tally import TallyKey

FLUSH_EVERY_S: Final = 5.0
MAX_KEYS: Final = 5_000
"""Reasons and doors are few, so this is more than an hour of a store that is away."""
_BATCH: Final = 500

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Counts on their way to the ledger, under one key until they are known to be there."""

    key: CommandKey
    counts: dict[TallyKey, int]


class RefusalCounter:
    """The counts of one process. clock: now, aware UTC. new_id: a fresh UUID.

    authentications: counts them, too, by door and reason.
    """

    def __init__(
        self,
        ledger: TokenLedger,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        authentications: Counter[tuple[str, str]] = NOT_COUNTED,
    ) -> None:
        self._authentications = authentications
        self._ledger = ledger
        self._clock = clock
        self._new_id = new_id
        self._counts: dict[TallyKey, int] = {}
        self._minute = self._minute_ends = datetime.min.replace(tzinfo=UTC)
        self._sent: _Batch | None = None

    @property
    def waiting(self) -> int:
        """How many refusals are counted and not known to be written."""
        sent = 0 if self._sent is None else sum(self._sent.counts.values())
        return sent + sum(self._counts.values())

    def count(self, reason: str, door: str) -> None:
        """Count one more."""
        self._authentications.add((door, reason))
        now = self._clock()
        # With that many keys the minute stands still: memory stays bounded and no count is lost.
        if not self._minute <= now < self._minute_ends and len(self._counts) < MAX_KEYS:
            self._minute = now.replace(second=0, microsecond=0)
            self._minute_ends = self._minute + timedelta(minutes=1)
        key = TallyKey(reason, door, self._minute)
        self._counts[key] = self._counts.get(key, 0) + 1

    async def flush(self) -> None:
        """Write what was counted until now. Raises Unavailable; the counts are kept then.

        What comes meanwhile is for the next time: in a flood there is always something.
        """
        if self._sent is not None:
            await self._send(self._sent)
        for _ in range(-(-len(self._counts) // _BATCH)):
            counts = dict(islice(self._counts.items(), _BATCH))
            for key in counts:
                del self._counts[key]
            await self._send(_Batch(CommandKey(self._new_id(), b"refusals"), counts))

    async def _send(self, batch: _Batch) -> None:
        # A batch whose fate is unknown is sent again under the same key, and so never counted
        # twice.
        self._sent = batch
        await self._ledger.record_refusals(batch.counts, key=batch.key)
        self._sent = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flush every few seconds, and in the end."""
        flushing = asyncio.create_task(self._run())
        try:
            yield
        finally:
            flushing.cancel()
            await asyncio.wait([flushing])
            try:
                await self.flush()
            except Unavailable:
                logger.warning("refusals.lost", count=self.waiting)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
            except Unavailable:
                logger.warning("refusals.not_written", waiting=self.waiting)
            except Exception as error:  # noqa: BLE001 - counting is not worth a worker; the class says enough
                logger.error("refusals.failed", error=type(error).__qualname__)  # noqa: TRY400

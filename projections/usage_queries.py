"""Questions to the view `usage`: a token's use over time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from domain.eventstore.connection import ReadPool
from projections import usage
from projections.queries import ViewReader
from projections.scim_tokens import rfc3339

SELECT: Final = "SELECT true, key, uses, refusals, sources FROM {table} WHERE key >= %s AND key < %s"
"""A range of the primary key: as many rows as there were hours with any use."""


class UsageStep(msgspec.Struct, frozen=True):
    """One hour or day of a token.

    at: its first instant, UTC. uses: how often the token authenticated. refusals: how often one of its
    secrets was turned away, counted once a minute. sources: addresses that presented it; 256 in an hour
    stand for as many or more.
    """

    at: str
    uses: int
    refusals: int
    sources: int


class UsageQueries:
    """Reads of the view `usage`."""

    def __init__(self, pool: ReadPool) -> None:
        self._view = ViewReader(pool, usage.PROJECTION)

    async def steps(
        self, token_id: UUID, *, from_at: datetime, to_at: datetime, step: timedelta, head: int
    ) -> list[UsageStep]:
        """Every step from the one that `from_at` is in, up to but not including `to_at`; zeros included.

        step: an hour, or a day of UTC.
        """
        start = _floor(from_at, step)
        found: dict[datetime, tuple[int, int, set[str]]] = {}
        bounds = [usage.key_of(token_id, start), usage.key_of(token_id, _ceiling(to_at, usage.HOUR))]
        for key, uses, refusals, sources in await self._view.rows(SELECT, bounds, head=head):
            at = _floor(usage.hour_of(bytes(key)), step)
            before = found.get(at, (0, 0, set()))
            found[at] = before[0] + uses, before[1] + refusals, before[2] | set(sources.split())
        return [_step(at, *found.get(at, (0, 0, set()))) for at in _starts(start, to_at, step)]


def _step(at: datetime, uses: int, refusals: int, sources: set[str]) -> UsageStep:
    return UsageStep(rfc3339(at), uses, refusals, len(sources))


def _starts(start: datetime, end: datetime, step: timedelta) -> Sequence[datetime]:
    return [start + number * step for number in range(-((start - end) // step))]


def _floor(at: datetime, step: timedelta) -> datetime:
    return usage.EPOCH + (at - usage.EPOCH) // step * step


def _ceiling(at: datetime, step: timedelta) -> datetime:
    return usage.EPOCH - (usage.EPOCH - at) // step * step

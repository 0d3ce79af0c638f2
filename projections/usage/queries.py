"""Query the view `usage`: a token's use over time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from projections.described import Instant, rfc3339
from projections.follow.wake_ups import NOBODY, Waker
from projections.usage import view as usage
from projections.view_reader import ViewReader

STEPS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_SPANS: Final = {"hour": timedelta(days=1), "day": timedelta(days=30)}
STEPS_MAX: Final = 1000

_SQL: Final = statements("projections.usage", "queries.sql")


def from_when(step: str, to_at: datetime) -> datetime:
    """Where an answer begins that is not asked for from an instant on: a day or 30 before its end,
    and never before the first hour that there is.
    """
    return max(usage.EPOCH, to_at - _SPANS[step])


class UsageStep(msgspec.Struct, frozen=True):
    """One hour or day of a token.

    at: its first instant, UTC. uses: how often the token authenticated. refusals: how often one of
    its secrets was turned away, counted once a minute. sources: addresses that presented it.
    """

    at: Instant
    uses: int
    refusals: int
    sources: int


class UsageQueries:
    """Reads of the view `usage`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, usage.PROJECTION, waker=waker)

    async def steps(
        self,
        token_id: UUID,
        *,
        from_at: datetime,
        to_at: datetime,
        step: timedelta,
        ledger_head: int,
    ) -> list[UsageStep]:
        """Every step from the one that `from_at` is in, up to but not including `to_at`;
        zeros included.

        step: an hour, or a day of UTC.
        """
        start = _floor(from_at, step)
        parameters = {
            "hours": step // usage.HOUR,
            "token": token_id.bytes,
            "start": usage.hour_key(start),
            "end": usage.hour_key(_ceiling(to_at, usage.HOUR)),
        }
        rows = await self._view.rows(_SQL["steps"], parameters, ledger_head=ledger_head)
        found = {usage.EPOCH + number * step: counts for number, *counts in rows}
        return [
            UsageStep(rfc3339(at), *found.get(at, (0, 0, 0))) for at in _starts(start, to_at, step)
        ]

    async def days(
        self, token_ids: Sequence[UUID], *, days: int, to_at: datetime, ledger_head: int
    ) -> Mapping[UUID, Sequence[int]]:
        """How often each token was used on each of the last `days` days of UTC, oldest first;
        the last one is that of `to_at`.
        """
        parameters = days_parameters(token_ids, days=days, to_at=to_at)
        rows = await self._view.rows(DAYS, parameters, ledger_head=ledger_head)
        return uses_by_day(rows, token_ids, days=days, to_at=to_at)


DAYS: Final = _SQL["days"]
_DAY: Final = STEPS["day"]


def days_parameters(
    token_ids: Sequence[UUID], *, days: int, to_at: datetime
) -> dict[str, Sequence[bytes] | bytes]:
    """What `DAYS` is asked with."""
    return {
        "tokens": [token_id.bytes for token_id in token_ids],
        "start": usage.hour_key(_first_day(days, to_at)),
        "end": usage.hour_key(_ceiling(to_at, usage.HOUR)),
    }


def uses_by_day(
    rows: Iterable[Sequence[Any]], token_ids: Sequence[UUID], *, days: int, to_at: datetime
) -> Mapping[UUID, Sequence[int]]:
    """The uses of each token on each day, from the rows of `DAYS`."""
    found = {token_id: [0] * days for token_id in token_ids}
    first = (_first_day(days, to_at) - usage.EPOCH) // _DAY
    for token, number, uses in rows:
        found[UUID(bytes=token)][number - first] = uses
    return found


def _first_day(days: int, to_at: datetime) -> datetime:
    return _floor(to_at, _DAY) - (days - 1) * _DAY


def _starts(start: datetime, end: datetime, step: timedelta) -> Sequence[datetime]:
    return [start + number * step for number in range(-((start - end) // step))]


def _floor(at: datetime, step: timedelta) -> datetime:
    return usage.EPOCH + (at - usage.EPOCH) // step * step


def _ceiling(at: datetime, step: timedelta) -> datetime:
    return usage.EPOCH - (usage.EPOCH - at) // step * step

"""Read views that are never stale: wait until a view has reached the ledger's last position at
the request's arrival."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from time import monotonic_ns
from typing import Any, Final

import psycopg
import structlog

from domain.errors import ProjectionBehind, ProjectionStopped
from domain.postgres.read_pool import ReadPool
from projections.faults import is_damage, told
from projections.follow import positions
from projections.follow.wake_ups import NOBODY, Waker
from projections.projection import Projection

FRESH_TIMEOUT_S: Final = 1.5
LONGEST_PAUSE_S: Final = 0.05
STOPPED_PAUSE_S: Final = 0.25

logger = structlog.get_logger()


class _Unreadable(Exception):
    """A table cannot be read as it is.

    versions: those that the attempt read, which are not those of the reader any more where another
    request has looked the pointers up again.
    """

    def __init__(self, versions: Mapping[str, int], error: psycopg.Error) -> None:
        super().__init__(told(error))
        self.versions = versions
        self.error = error


class ViewReader:
    """Runs queries on the live versions of one view or several.

    projections: {table} in a query stands for the first one's table, and the name of each for its
    own. waker: of the runner, who is told when a query has to wait.
    """

    def __init__(self, pool: ReadPool, *projections: Projection, waker: Waker = NOBODY) -> None:
        self._pool = pool
        self._waker = waker
        self._names = [projection.name for projection in projections]
        self._shapes = [projection.shape for projection in projections]
        self._versions: Mapping[str, int] | None = None

    async def rows(
        self, select: str, parameters: Sequence[Any] | Mapping[str, Any], *, ledger_head: int
    ) -> list[tuple[Any, ...]]:
        """The rows of `select`, once every view has applied every event up to `ledger_head`.

        select, and what is raised: see `attempt` and `fresh`.
        """
        return await self.fresh(partial(self.attempt, select, parameters), ledger_head=ledger_head)

    async def fresh(
        self, attempt: Callable[[], Awaitable[list[tuple[Any, ...]]]], *, ledger_head: int
    ) -> list[tuple[Any, ...]]:
        """The rows of an attempt that found every view at `ledger_head` or beyond.

        attempt: answers as `attempt` does. Raises ProjectionBehind after 1.5 s, or
        ProjectionStopped where that is why, also where a table cannot be read; StoreUnavailable
        when the store is away.
        """
        pause_s = 0.002
        began_at = monotonic_ns()
        deadline = asyncio.get_running_loop().time() + FRESH_TIMEOUT_S
        damaged: Mapping[str, int] | None = None
        while True:
            try:
                rows = await attempt()
            except _Unreadable as found:
                if found.versions == damaged:
                    reason = told(found.error)
                    logger.error("projections.unreadable", names=self._names, error=reason)  # noqa: TRY400
                    raise ProjectionStopped(f"the view {self._names[0]} cannot be read") from None
                # or was it dropped since the pointers were read?
                rows, damaged = [], found.versions
            if rows and rows[0][0] >= ledger_head:
                waited_us = (monotonic_ns() - began_at) // 1000
                self._pool.instruments.view_wait.observe(waited_us)
                return [row[3:] for row in rows if row[2] is not None]
            if rows and rows[0][1]:  # unless a newer release takes it over
                pause_s = max(pause_s, STOPPED_PAUSE_S)
            if not rows:  # a view was switched or never made: look the pointers up again
                self._versions = None
            self._waker.awaited()
            if asyncio.get_running_loop().time() + pause_s > deadline:
                has_stopped = bool(rows and rows[0][1])
                self._pool.instruments.timed_out.add("stopped_view" if has_stopped else "view")
                error_type = ProjectionStopped if has_stopped else ProjectionBehind
                raise error_type(f"the view {self._names[0]} has not reached the ledger's head")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def attempt(
        self, select: str, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """How far all views have come, whether one has stopped, and the rows of `select`.

        select: SQL with {table} for the live table, or the views' names; its first column is true.
        Positions and rows come from one statement, so from one snapshot. One row with nulls stands
        for none. Nothing where a view was switched or never made.
        """
        read: Mapping[str, int] = {}
        try:
            if self._versions is None:
                asked = [self._names, self._shapes]
                found = await self._pool.fetch(positions.LIVE_VERSIONS, asked)
                if len(found) < len(self._names):
                    return []
                self._versions = dict(found)
            read = self._versions
            versions = tuple((name, read[name]) for name in self._names)
            return await self._pool.fetch(_with_position(select, versions), parameters)
        except psycopg.Error as error:
            if is_damage(error):
                raise _Unreadable(read, error) from error
            raise


@lru_cache(maxsize=256)
def _with_position(select: str, versions: Sequence[tuple[str, int]]) -> str:
    """`select` on the tables of these versions, {table} being the first one's,
    behind how far all have come and whether one has stopped.
    """
    tables = {name: f"views.{name}_v{version}" for name, version in versions}
    live = ", ".join(f"('{name}', {version})" for name, version in versions)
    return f"""
        SELECT p.position, p.has_stopped, r.* FROM (
            SELECT min(position) AS position, bool_or(stopped_at IS NOT NULL) AS has_stopped
            FROM ledger.projection_positions
            WHERE (name, version) IN ({live}) AND role = 'live' HAVING count(*) = {len(versions)}
        ) p
        LEFT JOIN LATERAL (
            {select.format(table=tables[versions[0][0]], **tables)}
        ) r ON true
    """

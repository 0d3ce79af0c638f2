"""Read rows of a view by their ids: one statement for all requests that arrived together."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from domain.eventstore.batcher import Batcher, Job
from domain.postgres import binary_arrays
from projections.view_reader import FRESH_TIMEOUT_S, ViewReader


class RowsByKey:
    """Finds rows, each request waiting by itself until the view has reached its ledger head.

    select: SQL as for `ViewReader`, with one parameter, the array of ids; its second column is the
    row's id.
    """

    def __init__(self, view: ViewReader, select: str) -> None:
        self._view = view
        self._select = select
        self._attempts = Batcher(self._attempt)

    async def find(self, key: UUID, *, ledger_head: int) -> tuple[Any, ...] | None:
        """The columns behind the id, or None. Raises what `ViewReader.fresh` raises."""
        rows = await self._view.fresh(
            lambda: self._attempts.submit(key, timeout_s=FRESH_TIMEOUT_S), ledger_head=ledger_head
        )
        return rows[0][1:] if rows else None

    async def _attempt(self, jobs: Sequence[Job[UUID, list[tuple[Any, ...]]]]) -> None:
        keys = binary_arrays.uuids({job.ask for job in jobs})
        rows = await self._view.attempt(self._select, [keys])
        found = {row[3]: [row] for row in rows}
        none = [(*row[:2], None) for row in rows[:1]]
        for job in jobs:
            job.resolve(found.get(job.ask, none))

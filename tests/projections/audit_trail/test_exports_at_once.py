"""However many exports go on, they leave places of the pool to whoever asks for less."""

import asyncio
from collections.abc import AsyncIterator, MutableSequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.instruments import Gauge, ReadInstruments
from domain.postgres.read_pool import ReadPool
from projections.audit_trail.queries import LINES, STREAMED_MAX, AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from tests.conftest import Database
from tests.projections.audit_trail.test_audit_lines import HEAD, database, put, row

__all__ = ["database"]


class Highest(Gauge):
    """Remembers how many it ever was."""

    def __init__(self) -> None:
        self._cells: MutableSequence[int] = [0]
        super().__init__(self._cells, 0)
        self.highest = 0

    def add(self, difference: int) -> None:
        super().add(difference)
        self.highest = max(self.highest, self.value)


@pytest.mark.parametrize("kind", ["lines", "stream"])
def test_exports_never_take_all_places_of_the_pool(database: Database, kind: str) -> None:
    rows = 2 * LINES + 1
    put(database, [row(datetime(2021, 8, 10, tzinfo=UTC), "x", None, UUID(int=1))] * rows)

    async def read() -> None:
        in_use = Highest()
        pool = ReadPool(database.app, instruments=ReadInstruments(in_use=in_use))
        assert pool.size > STREAMED_MAX
        queries = AuditQueries(pool)

        async def export() -> int:
            asked: AsyncIterator[Any] = getattr(queries, kind)(
                AuditFilter(), Span(), limit=None, ledger_head=HEAD
            )
            pieces = [piece async for piece in asked]
            return sum(
                piece.count(b"\n") if isinstance(piece, bytes) else len(piece) for piece in pieces
            )

        assert await asyncio.gather(*(export() for _ in range(12))) == [rows] * 12
        assert in_use.highest == STREAMED_MAX
        await pool.close()

    asyncio.run(read())

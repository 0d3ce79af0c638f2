"""Query what the store holds and what it waits for: for those who watch the service."""

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from domain.errors import Unavailable
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.rotations import RotationQueries
from projections.scim_tokens.walk import NEWEST
from projections.view_reader import ViewReader

T = TypeVar("T")

KEPT_S: Final = 30.0
"""How long what is costly to count is told again."""
TOKENS_COUNTED: Final = 100_000
"""The newest, of those that are revoked and of the others."""
ROTATIONS_LOOKED_AT: Final = 500
STILL_USED: Final = timedelta(hours=1)
ENDS_SOON: Final = timedelta(days=1)

_SQL: Final = statements("projections.figures", "figures.sql")


class Now(NamedTuple):
    """newest_event_age_s: None of an empty ledger. lock_waiters: transactions that wait for the
    append lock; longest_wait_s: for how long the first of them has.
    """

    newest_event_age_s: float | None
    lock_waiters: int
    longest_wait_s: float


class RotationFigures(NamedTuple):
    """Of the newest ROTATIONS_LOOKED_AT.

    underway: rotations. in_use: those of them that end within a day, and whose older secret was
    used within the last hour.
    """

    underway: int
    in_use: int


class Figures(NamedTuple):
    """What is costly to count; None where that cannot be counted now.

    sizes: bytes by group of tables. tokens: by state, the newest TOKENS_COUNTED at most.
    """

    sizes: Mapping[str, int] | None = None
    tokens: Mapping[str, int] | None = None
    rotations: RotationFigures | None = None


class FigureQueries:
    """Reads of the views as they are: nobody waits for the ledger's head."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool
        self._tokens = ViewReader(pool, scim_tokens.PROJECTION)
        self._rotations = RotationQueries(pool)
        self._counted_at = float("-inf")
        self._counted = Figures()

    async def now(self) -> Now:
        """What changes from moment to moment. Raises StoreUnavailable."""
        ((age_s, waiters, longest_s),) = await self._pool.fetch(_SQL["now"])
        return Now(age_s, waiters, longest_s)

    async def figures(self, at: datetime) -> Figures:
        """What is costly to count, as it was KEPT_S ago at most."""
        if monotonic() - self._counted_at > KEPT_S:
            self._counted_at = monotonic()  # whoever asks meanwhile is told what was known before
            self._counted = Figures(
                await _unless_away(self._sizes()),
                await _unless_away(self._by_state(at)),
                await _unless_away(self._underway(at)),
            )
        return self._counted

    async def _sizes(self) -> Mapping[str, int]:
        found: dict[str, int] = dict(await self._pool.fetch(_SQL["sizes"]))
        return {"events": 0, "state": 0, "views": 0, "other": 0} | found

    async def _by_state(self, at: datetime) -> Mapping[str, int]:
        asked = {"at": at, "limit": TOKENS_COUNTED}
        return dict(await self._tokens.rows(_SQL["tokens"], asked, ledger_head=0))

    async def _underway(self, at: datetime) -> RotationFigures:
        rows = await self._rotations.slice(*NEWEST, limit=ROTATIONS_LOOKED_AT, ledger_head=0)
        underway = [row for row in rows if row.ends_at > at]
        in_use = [
            row
            for row in underway
            if row.ends_at <= at + ENDS_SOON
            and row.older_last_at is not None
            and row.older_last_at > at - STILL_USED
        ]
        return RotationFigures(len(underway), len(in_use))


async def _unless_away(asked: Awaitable[T]) -> T | None:
    with suppress(Unavailable):
        return await asked
    return None

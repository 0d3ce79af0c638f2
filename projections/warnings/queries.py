"""Query what is due and what will be: for those who watch the service."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection

from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token.warnings import EXPIRING_DAYS, ROTATION_ENDING_DAYS
from projections.scim_tokens import view as scim_tokens
from projections.token_sources import view as token_sources
from projections.view_reader import ViewReader

EXPIRING_WITHIN_DAYS: Final = sorted({*EXPIRING_DAYS, 90})
COUNTED: Final = 10_000
"""Tokens that are counted at most: an alarm asks whether there are any."""

LATE_AFTER: Final = timedelta(minutes=10)
"""How long warnings may wait: after an upgrade, thousands become due at once."""

VIEWS: Final = (scim_tokens.PROJECTION, token_sources.PROJECTION)

_SQL: Final = statements("projections.warnings", "due.sql")


def due_since(connection: Connection, versions: Mapping[str, int], at: datetime) -> datetime | None:
    """What `WarningQueries.due_since` tells, without a service. versions: of each of VIEWS."""
    tables = {view.name: view.table(versions[view.name]) for view in VIEWS}
    row = connection.execute(_SQL["oldest"].format(**tables).encode(), {"at": at}).fetchone()
    assert row is not None
    oldest: datetime | None = row[1]
    return oldest


class WarningQueries:
    """Reads of the views as they are: nobody waits for the ledger's head.

    Each raises ProjectionBehind or ProjectionStopped where a view cannot be read, and
    StoreUnavailable.
    """

    def __init__(self, pool: ReadPool) -> None:
        self._views = ViewReader(pool, *VIEWS)

    async def due_since(self, at: datetime) -> datetime | None:
        """Since when something is to be told at `at`; None where there is nothing."""
        oldest: datetime | None
        ((oldest,),) = await self._views.rows(_SQL["oldest"], {"at": at}, ledger_head=0)
        return oldest

    async def expiring(self, at: datetime) -> Mapping[int, int]:
        """Of each of EXPIRING_WITHIN_DAYS, how many good tokens end within; COUNTED at most."""
        return await self._counts(_SQL["expiring"], at, EXPIRING_WITHIN_DAYS)

    async def rotations_ending(self, at: datetime) -> Mapping[int, int]:
        """Of each of ROTATION_ENDING_DAYS, how many rotations end within them; COUNTED at most."""
        return await self._counts(_SQL["rotations_ending"], at, ROTATION_ENDING_DAYS)

    async def _counts(self, statement: str, at: datetime, days: Sequence[int]) -> Mapping[int, int]:
        asked = {"at": at, "days": list(days), "limit": COUNTED}
        return dict(await self._views.rows(statement, asked, ledger_head=0))

"""The clock of a process, which the database compares with its own (`ledger.ledger_time`).

Whoever is refused for it can do nothing about it, and nothing was recorded: `ClockSkewed`, a 503.
One line of the log tells when it begins and one when it is over.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import psycopg
import structlog

from domain.errors import ClockSkewed
from domain.eventstore import append
from domain.postgres.read_pool import ReadPool

SKEWED: Final = "SL001"
"""The SQLSTATE that `ledger.ledger_time` raises."""

AHEAD_MAX: Final = timedelta(seconds=2)
"""How far ahead of the database's clock it believes an instant:
what is further is damage of before.
"""

BEHIND_MAX: Final = timedelta(seconds=3)
"""How far behind it; one second of it is for who waits for the append lock."""

APART_MAX: Final = AHEAD_MAX + BEHIND_MAX
"""How far an instant of the ledger may be ahead of our clock: before migration 0023 another
process's clock gave it.
"""

logger = structlog.get_logger()


class LedgerClock:
    """A process's clock, and whether the database believes it.

    read: now, aware UTC, whole milliseconds.
    """

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read
        self._is_refused = False

    def __call__(self) -> datetime:
        return self._read()

    def refuse(self, error: psycopg.Error) -> None:
        """Raise ClockSkewed where that is what the database said;
        return where it is something else.
        """
        skew = skew_of(error)
        if skew is None:
            return
        if not self._is_refused:
            self._is_refused = True
            logger.error("clock.refused", reason=str(skew))
        try:
            raise skew from error
        finally:
            del skew  # it has this frame, which must not have it

    def believed(self) -> None:
        """The database took an instant of this clock."""
        if self._is_refused:
            self._is_refused = False
            logger.warning("clock.believed_again")


async def read_ledger_time(reads: ReadPool, clock: LedgerClock) -> datetime:
    """Ledger time, outside of any append. Raises ClockSkewed, StoreUnavailable."""
    try:
        ((at,),) = await reads.fetch(append.LEDGER_TIME, [clock()])
    except psycopg.Error as error:
        clock.refuse(error)
        raise
    clock.believed()
    assert isinstance(at, datetime)
    return at


def skew_of(error: psycopg.Error) -> ClockSkewed | None:
    """What the database said, where it did not believe an instant; None for every other error."""
    return ClockSkewed(error.diag.message_primary) if error.sqlstate == SKEWED else None

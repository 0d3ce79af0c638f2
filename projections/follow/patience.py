"""How long the runner waits for an answer, before it tries another connection."""

from contextlib import AbstractContextManager
from typing import Final

from psycopg import Connection

from domain.postgres.connection import answered_within
from domain.postgres.session import FOLLOWING

LOOKED_WITHIN_S: Final = 2.0
"""To look for news is answered in milliseconds, and is what it does nearly all the time."""
EACH_EVENT_S: Final = 0.006
"""More, for each event of a batch."""
FACTOR_MAX: Final = 16


class Patience:
    """A little for a little, so that a lost answer is not waited for as long as a large batch may
    take; and twice as much after each failure: a database that is slow must not be left for ever.
    """

    def __init__(self) -> None:
        self._factor = 1

    def within(self, connection: Connection, *, events: int = 0) -> AbstractContextManager[None]:
        """For calls that have to do with so many events."""
        timeout_s = self._factor * (LOOKED_WITHIN_S + EACH_EVENT_S * events)
        return answered_within(connection, min(timeout_s, FOLLOWING.answer_within_s or timeout_s))

    def failed(self) -> None:
        """The connection broke."""
        self._factor = min(2 * self._factor, FACTOR_MAX)

    def worked(self, took_s: float) -> None:
        """All that there was to do is done, in this time."""
        if took_s < LOOKED_WITHIN_S / 2:
            self._factor = 1

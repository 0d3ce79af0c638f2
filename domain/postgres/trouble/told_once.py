"""Tell of a database that is away, from a loop that tries again and again."""

from typing import Final

import structlog

from domain.postgres.trouble.unusable_reasons import reason

logger: Final = structlog.get_logger()


class ToldOnce:
    """One line of the log when the database is lost, one for each other reason meanwhile, and one
    when it is over.

    lost, over: the names of the lines.
    """

    def __init__(self, lost: str, over: str) -> None:
        self._lost = lost
        self._over = over
        self._said = ""

    def lost(self, error: BaseException) -> None:
        """It cannot be used, for this reason."""
        said = reason(error)
        if said != self._said:
            self._said = said
            logger.warning(self._lost, reason=said)

    def works(self) -> None:
        """It has done what it was asked."""
        if self._said:
            self._said = ""
            logger.warning(self._over)

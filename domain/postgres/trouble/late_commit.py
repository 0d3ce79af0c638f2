"""Tell of a commit that waits for a synchronous standby."""

import math
import time
from collections.abc import Callable
from typing import Final

import structlog

from domain.postgres.trouble.beside_wait import Looker

LATE_COMMIT: Final = (
    "the commit waits for a synchronous standby, which synchronous_standby_names demands: "
    "bring that back, or take it out of the setting"
)
_LATE_S: Final = 3.0
_ASKED_EVERY_MAX_S: Final = 60.0

logger = structlog.get_logger()


class LateCommit(Looker):
    """Tells where a program waits for a commit that waits for a standby: the server says nothing,
    and may wait for ever. For one wait of one that may take as long as it likes.

    is_waiting: whether a commit of ours waits for a standby, asked of the server beside the wait:
    after _LATE_S, and in ever longer intervals. One line of the log tells it.
    """

    def __init__(self, is_waiting: Callable[[], bool | None]) -> None:
        self._is_waiting = is_waiting
        self._pause_s = _LATE_S
        self._due = time.monotonic() + _LATE_S

    def look(self) -> None:
        """To be called several times a second."""
        if time.monotonic() < self._due:
            return
        if self._is_waiting():
            logger.warning(LATE_COMMIT)
            self._due = math.inf
            return
        self._pause_s = min(2 * self._pause_s, _ASKED_EVERY_MAX_S)
        self._due = time.monotonic() + self._pause_s

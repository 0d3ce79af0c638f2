"""End a wait for an answer that nobody owes any more: the session is gone, and what stands between
has not said so.
"""

import time
from collections.abc import Callable
from typing import Final

_LATE_S: Final = 5.0
_ASKED_EVERY_S: Final = 10.0


class SessionLost(Exception):
    """The server that takes writes now has no such session."""


class LostSession:
    """Looks after a session of a program that may wait as long as it takes, for one wait.

    A pooler, or a server that hangs while another takes over, holds our connection open for hours;
    no time-out of the server's ends what is on none. So it is asked beside the wait.

    is_gone: whether there is a server that takes writes, and it has no such session.
    """

    def __init__(self, is_gone: Callable[[], bool]) -> None:
        self._is_gone = is_gone
        self._due = time.monotonic() + _LATE_S

    def look(self) -> None:
        """To be called several times a second. Raises SessionLost."""
        if time.monotonic() < self._due:
            return
        if self._is_gone():
            raise SessionLost
        self._due = time.monotonic() + _ASKED_EVERY_S

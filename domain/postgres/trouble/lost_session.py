"""End a wait for an answer that nobody owes any more: the session is gone, and what stands between
has not said so.
"""

import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

T = TypeVar("T")
Sent = TypeVar("Sent")
Said = TypeVar("Said")
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

    def during(self, work: Generator[Said, Sent, T]) -> Generator[Said, Sent, T]:
        """The same generator of the library's; it is sent something several times a second.

        Raises SessionLost.
        """
        sent = None
        while True:
            try:
                said = work.send(sent)  # type: ignore[arg-type]  # nothing, to begin with
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            sent = yield said
            if not sent and time.monotonic() >= self._due:
                if self._is_gone():
                    raise SessionLost
                self._due = time.monotonic() + _ASKED_EVERY_S

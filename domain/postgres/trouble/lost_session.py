"""End a wait for an answer that nobody owes any more, where what stands between has not said so:
the session is gone, or the server has answered and somebody has lost it.
"""

import time
from collections.abc import Callable
from typing import Final

import psycopg

from domain.postgres.trouble.beside_wait import Looker

_LATE_S: Final = 5.0
_ASKED_EVERY_S: Final = 10.0


class AnswerLost(psycopg.OperationalError):
    """The server that takes writes works on nothing of this session, and has not answered."""

    def __init__(self) -> None:
        super().__init__("the server works on nothing, and no answer came")


class LostSession(Looker):
    """Looks after a session of a program that may wait as long as it takes, for one wait.

    A pooler, a firewall, or a server that hangs while another takes over, holds our connection open
    for hours; no time-out of the server's ends what it does not work on. So it is asked beside the
    wait: after _LATE_S, and in _ASKED_EVERY_S again while it is at work. What it has said may be
    under way to us, so it is asked twice, and nothing may have come between.

    is_at_work: whether the server that takes writes works for this session; None where it cannot
    be asked.
    """

    def __init__(self, is_at_work: Callable[[], bool | None]) -> None:
        self._is_at_work = is_at_work
        self._is_found_idle = False
        self._due = time.monotonic() + _LATE_S

    def look(self) -> None:
        """To be called several times a second. Raises AnswerLost."""
        if time.monotonic() < self._due:
            return
        is_idle = self._is_at_work() is False
        if is_idle and self._is_found_idle:
            raise AnswerLost
        self._is_found_idle = is_idle
        self._due = time.monotonic() + (_LATE_S if is_idle else _ASKED_EVERY_S)

    def heard(self) -> None:
        """Something has come: what the server has said is under way."""
        self._is_found_idle = False


def of_program(has_session: Callable[[], bool | None]) -> Callable[[], bool | None]:
    """Whether the server works for a program of PostgreSQL's own, which tells us nothing.

    has_session: whether it has a session by the program's name; None where it cannot be asked.
    Where a pooler tells the server another name, it never had one, and that says nothing.
    """
    has_been_seen = False

    def is_at_work() -> bool | None:
        nonlocal has_been_seen
        has_one = has_session()
        has_been_seen |= has_one is True
        return has_one if has_been_seen else None

    return is_at_work

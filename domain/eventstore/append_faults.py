"""Why the database refuses appends that it was asked for, as one process has seen it."""

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

import psycopg
import structlog

from domain.errors import AppendsRefused

BELIEVED_S: Final = 10.0
"""A process that is not ready gets no requests, and would not find out that all is well."""

MIXED_S: Final = 1.0
"""So long after one that worked, a refusal may be of one request among many."""

_LASTING: Final = ("42", "53", "54", "58", "XX")
"""Classes of SQLSTATE: a right or a table is missing, no room, a limit, the system, damage. None of
them says that a connection was lost or a wait was ended."""

_SAID: Final = {
    "53100": "its disk is full: make room there",
    "54000": "it has no transaction ids left: scim-ledger doctor says what to do",
    "42501": "the role lacks a right: run scim-ledger migrate as the owner",
}

logger = structlog.get_logger()


class AppendFaults:
    """The last append that the database refused, while none succeeds.

    Some may be refused and others not, by turns: that is no reason to send no requests here. The
    log has a line when that begins and one when it is over, however often it turns.
    now: seconds, of a clock that only goes on.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._refused: tuple[str, float] | None = None
        self._worked_at = -inf
        self._has_worked_since = False

    def failed(self, error: psycopg.Error) -> None:
        """An append ended with this."""
        sqlstate = error.sqlstate or ""
        if not sqlstate.startswith(_LASTING):
            return
        if self._refused is None:
            logger.error("store.refuses_appends", sqlstate=sqlstate)
        self._refused = sqlstate, self._now()
        self._has_worked_since = False

    def worked(self) -> None:
        """An append is committed."""
        self._worked_at = self._now()
        self._has_worked_since = True
        if self._refused is not None and self._worked_at - self._refused[1] > BELIEVED_S:
            self._refused = None
            logger.warning("store.takes_appends_again")

    def require_none(self) -> None:
        """Raise AppendsRefused where an append was refused in the last seconds, and none worked."""
        if self._refused is None or self._has_worked_since:
            return
        sqlstate, refused_at = self._refused
        now = self._now()
        if now - refused_at > BELIEVED_S or now - self._worked_at <= MIXED_S:
            return
        raise refusal(sqlstate)


def refusal(sqlstate: str | None) -> AppendsRefused:
    """What to raise, with a sentence that may be shown."""
    why = _SAID.get(sqlstate or "", f"SQLSTATE {sqlstate}, its log says why")
    return AppendsRefused(f"the database refuses what is to be recorded: {why}")

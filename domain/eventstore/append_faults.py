"""Why the database takes no appends: as one process has seen it, and as it finds when it asks."""

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from time import monotonic
from typing import Final, NamedTuple

import psycopg
import structlog

from domain.errors import AppendsRefused, LedgerLocked, StoreUnavailable
from domain.eventstore.append import MAY_APPEND
from domain.eventstore.batcher import Batcher, Job
from domain.postgres.read_pool import ReadPool

BELIEVED_S: Final = 10.0
"""A process that is not ready gets no requests, and would not find out that all is well."""

RECONNECTED_S: Final = 2.0
"""Whether there are connections again, the next look of readiness finds out by itself."""

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


class _Fault(NamedTuple):
    error: StoreUnavailable
    at: float
    believed_s: float


class AppendFaults:
    """The last append of a lane that the database refused, or was not asked for, while none
    succeeds.

    Some may be refused and others not, by turns: that is no reason to send no requests here. The
    log has a line when that begins and one when it is over, however often it turns.
    lane: its name in the log. vouches_for: another lane, whose faults alone are no reason either
    while appends of this one succeed. now: seconds, of a clock that only goes on.
    """

    def __init__(
        self,
        lane: str,
        *,
        vouches_for: "AppendFaults | None" = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._lane = lane
        self._vouches_for = vouches_for
        self._now = now
        self._last: _Fault | None = None
        self._worked_at = -inf
        self._has_worked_since = False

    def failed(self, error: psycopg.Error) -> None:
        """An append ended with this."""
        sqlstate = error.sqlstate or ""
        if sqlstate.startswith(_LASTING):
            self._note(refusal(sqlstate), BELIEVED_S, "store.refuses_appends", sqlstate=sqlstate)

    def unreachable(self, error: StoreUnavailable) -> None:
        """No connection for appends can be had."""
        self._note(error, RECONNECTED_S, "store.unreachable", reason=str(error))

    def worked(self) -> None:
        """An append is committed."""
        self._worked_at = self._now()
        self._has_worked_since = True
        if self._last is not None and self._worked_at - self._last.at > BELIEVED_S:
            self._last = None
            logger.warning("store.takes_appends_again", lane=self._lane)
        if self._vouches_for is not None:
            self._vouches_for.worked()

    def require_none(self) -> None:
        """Raise AppendsRefused where an append was refused in the last seconds, and none worked;
        StoreUnavailable where it could not be asked for.
        """
        if self._last is None or self._has_worked_since:
            return
        now = self._now()
        if now - self._last.at > self._last.believed_s or now - self._worked_at <= MIXED_S:
            return
        raise self._last.error.with_traceback(None)

    def _note(self, error: StoreUnavailable, believed_s: float, event: str, **why: str) -> None:
        if self._last is None:
            logger.error(event, lane=self._lane, **why)
        self._last = _Fault(error, self._now(), believed_s)
        self._has_worked_since = False


class AppendProbe:
    """Whether a use would be recorded now. One look at a time, for all who ask meanwhile: it takes
    the append lock, and anybody may ask `/readyz`.

    connect: has the connection that the next use needs. Reads have theirs, which may stand while
    the database takes no new one: its limit is reached, or a certificate or password has ended.
    """

    def __init__(
        self,
        pool: ReadPool,
        faults: Sequence[AppendFaults],
        connect: Callable[[], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._faults = faults
        self._connect = connect
        self._looks: Batcher[None, None] = Batcher(self._look)

    async def require(self, *, timeout_s: float = 1.5) -> None:
        """Raise LedgerLocked where a use would wait for longer than it may, AppendsRefused where
        the last append of a lane of this process was refused; StoreUnavailable.

        It waits for as long as a read waits for a lock (`READING`), and writes nothing.
        """
        for lane in self._faults:
            lane.require_none()
        await self._looks.submit(None, timeout_s=timeout_s)

    async def _look(self, jobs: Sequence[Job[None, None]]) -> None:
        try:
            await self._pool.fetch(MAY_APPEND)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise LedgerLocked from error
            raise
        except psycopg.Error as error:
            raise refusal(error.sqlstate) from error
        await self._connect()
        for job in jobs:
            job.resolve(None)


def refusal(sqlstate: str | None) -> AppendsRefused:
    """What to raise, with a sentence that may be shown."""
    why = _SAID.get(sqlstate or "", f"SQLSTATE {sqlstate}, its log says why")
    return AppendsRefused(f"the database refuses what is to be recorded: {why}")

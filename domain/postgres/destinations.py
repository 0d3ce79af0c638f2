"""Where connections lead that are open at once: to a session each, and to one database.

A pooler in transaction mode would break our sessions: what one states would hold for whoever gets
it next, and for us no longer; prepared statements and the locks by which one process leads the
projections are of a session, too.
"""

from contextlib import ExitStack, suppress
from secrets import randbits
from typing import Any, Final

import psycopg

from domain.errors import LedgerError, SharedSession, StoreUnavailable
from domain.postgres.connection import open_connection
from domain.postgres.hosts import remember
from domain.postgres.session import SERVING, each_host

_SESSION: Final = "SELECT pg_backend_pid()"
_HOLD: Final = "SELECT pg_advisory_xact_lock(%s)"
_IS_HELD: Final = "SELECT NOT pg_try_advisory_xact_lock(%s)"
_HOST_TIMEOUT_S: Final = 2
_ROUNDS: Final = 25
"""A busy pool may give both what they had by chance, but not time and again. Ten milliseconds."""


class TwoDatabases(LedgerError):
    """What is for the ledger's owner would be done in another database than the service's."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL and SCIM_LEDGER_OWNER_DATABASE_URL lead to two databases: "
            "let both name the ledger's, each with its role"
        )


class TwoPrimaries(LedgerError):
    """Of several hosts, two take writes: one was the primary before, and came back."""

    def __init__(self) -> None:
        super().__init__(
            "two hosts of DATABASE_URL take writes and are two databases: "
            "stop the one that was the primary before the other was promoted"
        )


def require_place(conninfo: str, *, may_be_two: bool = False) -> None:
    """Raise SharedSession and TwoPrimaries where what is done there would not hold, or not for all.

    A backup, a check or a revocation on the first of two primaries says nothing of the other.
    may_be_two: for a service, which finds out by its head file and goes on. Raises
    StoreUnavailable.
    """
    if not may_be_two:
        require_one_primary(conninfo)
    require_own_session(conninfo)


def require_own_session(conninfo: str) -> None:
    """Raise SharedSession where two connections that are open at once do not have a session each.

    In the order one, other, other, one: a pooler that gives out the session used last gives both
    the same, and one that gives them out in turn gives one of the two another than before. In
    session mode, and without a pooler, each keeps its own. Raises StoreUnavailable.
    """
    with (
        open_connection(conninfo, session=SERVING) as one,
        open_connection(conninfo, session=SERVING) as other,
    ):
        asked = (one, other, other, one) * _ROUNDS
        seen = {(each is one, each.execute(_SESSION, prepare=False).fetchone()) for each in asked}
    if len(seen) != len((one, other)) or len({session for _, session in seen}) != len(seen):
        raise SharedSession


def require_one_database(app: str, owner: str, *, needs_app: bool = True) -> None:
    """Raise TwoDatabases where the connection strings of the two roles lead to two databases.

    A lock that one of them holds is held for the other in the same database alone, whatever they
    call its server: a pooler, an address, a socket. Raises StoreUnavailable: the owner's names the
    owner's variable. needs_app: where not, an app that is not let in leads nowhere.
    """
    try:
        owning = open_connection(owner, is_autocommit=False)
    except StoreUnavailable as error:
        told = str(error).replace("DATABASE_URL", "SCIM_LEDGER_OWNER_DATABASE_URL")
        error.args = (told,)
        raise
    with owning:
        try:
            serving = open_connection(app, is_autocommit=False)
        except StoreUnavailable:
            if needs_app:
                raise
            return
        with serving:
            if not _is_one_database(serving, owning):
                raise TwoDatabases


def require_one_primary(conninfo: str) -> None:
    """Raise TwoPrimaries where two of its hosts take writes and do not lead to one database.

    What is found on the first of them, and only there, may be missing on it alone. A host that does
    not let us in, or is a standby, does not count: two seconds each at most, and who connects
    afterwards does not wait for it.
    """
    hosts = each_host(conninfo)
    if len(hosts) == 1:
        return
    with ExitStack() as opened:
        primaries = []
        for host in hosts:
            with suppress(StoreUnavailable):
                connection = open_connection(
                    host, is_autocommit=False, timeout_s=_HOST_TIMEOUT_S, session=SERVING
                )
                primaries.append((host, opened.enter_context(connection)))
        if primaries:
            (host, one), *others = primaries
            if not all(_is_one_database(one, other) for _, other in others):
                raise TwoPrimaries
            remember(conninfo, host)


def _is_one_database(one: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> bool:
    key = randbits(63)
    one.execute(_HOLD, [key])
    return other.execute(_IS_HELD, [key]).fetchone() == (True,)

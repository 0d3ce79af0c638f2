"""Check what is in the way of every append: somebody else's lock, or positions that are taken."""

from collections.abc import Iterator
from typing import Final

from psycopg import Connection
from psycopg.errors import LockNotAvailable, ReadOnlySqlTransaction

from api.doctor.finding import Finding, fail, ok
from domain.eventstore import append
from domain.eventstore.known_head.positions import behind
from domain.postgres.sql_file import statements

_SQL: Final = statements("api.doctor", "locks.sql")
NAMED_MAX: Final = 5


def appends(connection: Connection) -> Iterator[Finding]:
    """Whether an append gets the locks that it needs, in the time that a session waits for one.

    Nothing of a server that takes no writes, which is a finding of its own.
    """
    try:
        connection.execute(append.MAY_APPEND)
    except ReadOnlySqlTransaction:
        return
    except LockNotAvailable:
        in_the_way = [what for (what,) in connection.execute(_SQL["in_the_way"], [NAMED_MAX])]
        told = "; ".join(in_the_way) or "who it was has let go of it meanwhile"
        yield fail(
            "locks",
            f"every use and command waits for a lock, and is answered 503: {told}",
            "wait until it is done, or end it: pg_terminate_backend, ROLLBACK PREPARED",
        )
    else:
        yield ok("locks", "none is in the way of an append")


def positions(connection: Connection) -> Finding:
    """Whether the next event comes behind all that there are."""
    found = behind(connection)
    if found is None:
        return ok("positions", "the next event comes behind all that there are")
    next_, newest = found
    return fail(
        "positions",
        f"the next event would get position {next_}, and the ledger is at {newest}: the "
        "events were copied without their sequence, as logical replication does",
        "stop the service and start it again, or run scim-ledger migrate as the owner",
    )

"""Check whether somebody else's lock is in the way of every append, and say whose."""

from collections.abc import Iterator
from typing import Final

from psycopg import Connection
from psycopg.errors import LockNotAvailable, ReadOnlySqlTransaction

from api.doctor.finding import Finding, fail, ok
from domain.eventstore import append
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

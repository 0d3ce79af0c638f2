"""Reading the ledger in order, in batches."""

from collections.abc import Callable
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow, args_row

from projections.projection import LogEntry

READ: Final[LiteralString] = """
    SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
    FROM ledger.events WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""
"""In commit order, by the index on notification_id. A committed event is never before one already read."""

_entry: Final[Callable[..., LogEntry]] = LogEntry


def read(connection: Connection[TupleRow], *, after: int, limit: int) -> list[LogEntry]:
    """The next entries of the ledger."""
    with connection.cursor(row_factory=args_row(_entry), binary=True) as cursor:
        return cursor.execute(READ, [after, limit], prepare=True).fetchall()

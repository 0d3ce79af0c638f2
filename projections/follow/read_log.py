"""Reading the ledger in order, in batches."""

import sys
from collections.abc import Callable
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow, args_row

from projections.projection import LogEntry, Projection, UnknownTopic

NO_UNTIL: Final = sys.maxsize

READ: Final[LiteralString] = """
    SELECT notification_id, originator_id, originator_version, topic, at, command_id, state
    FROM ledger.events WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id
        LIMIT %s
"""
"""In commit order, by the index on notification_id.

A committed event is never before one already read.
"""

_MINE: Final[LiteralString] = """
    SELECT notification_id, originator_id, originator_version, topic, at,
        CASE WHEN topic = ANY(%(decodes)s) THEN command_id
            ELSE '00000000-0000-0000-0000-000000000000' END,
        CASE WHEN topic = ANY(%(decodes)s) THEN state ELSE '' END
    FROM ledger.events
    WHERE notification_id > %(after)s AND notification_id <= %(until)s
        AND (topic = ANY(%(each)s) OR topic <> ALL(%(known)s))
"""

READ_FOR: Final[LiteralString] = f"{_MINE} ORDER BY 1"
"""What one projection needs of a stretch of the log, in commit order, and what nobody knows."""

READ_FOR_LAST_ONLY: Final[LiteralString] = f"""
    WITH mine AS MATERIALIZED ({_MINE})
    SELECT * FROM mine
    UNION ALL
    SELECT last.* FROM mine CROSS JOIN LATERAL (
        SELECT notification_id, originator_id, originator_version, topic, at,
            '00000000-0000-0000-0000-000000000000'::uuid, ''::bytea
        FROM ledger.events e
        WHERE e.originator_id = mine.originator_id AND e.topic = ANY(%(last_only)s)
            AND e.notification_id <= %(end)s
        ORDER BY e.originator_version DESC LIMIT 1
    ) last
    WHERE mine.originator_version = 1
    ORDER BY 1
"""
"""The same, and of each stream that begins there its last entry of `last_only` at all, up to `end`.

Found by the primary key, from the end of the stream.
"""

_entry: Final[Callable[..., LogEntry]] = LogEntry


def read(
    connection: Connection[TupleRow], *, after: int, limit: int, until: int = NO_UNTIL
) -> list[LogEntry]:
    """The next entries of the ledger."""
    with connection.cursor(row_factory=args_row(_entry), binary=True) as cursor:
        return cursor.execute(READ, [after, until, limit], prepare=True).fetchall()


def read_for(
    connection: Connection[TupleRow],
    projection: Projection,
    *,
    after: int,
    until: int,
    end: int,
    known: frozenset[str],
) -> list[LogEntry]:
    """What one projection needs of the ledger between two positions,
    if it is read up to `end` at last.

    known: topics of this release. Raises UnknownTopic for one that is neither there nor the
    projection's own. See `decodes` and `last_only`: entries of the latter may lie beyond `until`.
    One result, not COPY: psycopg builds its rows in C, 0.65 s of CPU for 300,000 entries against
    1.3 s through `Copy.rows`, and the database has sent them before the fold begins.
    """
    decodes = projection.topics if projection.decodes is None else projection.decodes
    known = projection.topics | known
    parameters = {
        "after": after,
        "until": until,
        "end": end,
        "decodes": list(decodes),
        "each": list(projection.topics - projection.last_only),
        "last_only": list(projection.last_only),
        "known": list(known),
    }
    statement = READ_FOR_LAST_ONLY if projection.last_only else READ_FOR
    with connection.cursor(row_factory=args_row(_entry), binary=True) as cursor:
        entries = cursor.execute(statement, parameters).fetchall()
    if not known.issuperset({entry.topic for entry in entries}):
        first = next(entry for entry in entries if entry.topic not in known)
        raise UnknownTopic(first.position, first.topic)
    return entries


def head(connection: Connection[TupleRow]) -> int:
    """The position of the last event, 0 in an empty ledger."""
    row = connection.execute(
        "SELECT coalesce(max(notification_id), 0) FROM ledger.events"
    ).fetchone()
    assert row is not None
    found: int = row[0]
    return found

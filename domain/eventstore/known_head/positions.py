"""See that the next event gets a position behind all that there are.

Positions come from a sequence. Logical replication, and a copy of the tables by hand, bring the
events and leave it behind: an event at a taken position is refused, and one in a gap between old
ones is at a position that every view has passed.
"""

from typing import Final

import structlog
from psycopg import Connection

from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")

logger = structlog.get_logger()


def behind(connection: Connection) -> tuple[int, int] | None:
    """The next position and the last one taken, where that comes not before; None where all is
    well, or where this role may not see it: an earlier release's `migrate` granted no look.
    """
    if connection.execute(_SQL["may_look_ahead"]).fetchone() != (True,):
        return None
    row = connection.execute(_SQL["behind"]).fetchone()
    return None if row is None else (row[0], row[1])


def follow(connection: Connection) -> None:
    """No event gets a position that is taken or passed. Nothing is done where all is well."""
    positions = behind(connection)
    if positions is None:
        return
    next_, newest = positions
    connection.execute(_SQL["skip_positions"], [newest])
    logger.warning("positions.set_right", next=next_, newest=newest)

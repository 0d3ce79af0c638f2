"""Advisory locks on views, one to lead and one to rebuild; they end with their connection.

A lock is of one view in one shape, so that two releases at once do not stand in each other's way.
"""

from collections.abc import Iterable
from typing import Final, LiteralString

from psycopg import Connection

from domain.postgres.sql_file import statements
from projections.projection import Projection

LEADER: Final = 723907581
"""Keeps the live version up with the ledger. The same number is in `sql/locks.sql`."""

REBUILD: Final = 723907582
"""Builds a version beside it."""

TAKE_OVER: Final[LiteralString] = "SELECT pg_advisory_xact_lock(7239075817)"

_SQL: Final = statements("projections.follow", "sql/locks.sql")
ANOTHER_RELEASE_LEADS: Final = _SQL["another_release_leads"]
"""Parameters: those of `named`."""

_TRY: Final[LiteralString] = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
_UNLOCK: Final[LiteralString] = "SELECT pg_advisory_unlock(%s, hashtext(%s))"


def try_lock(connection: Connection, purpose: int, projection: Projection) -> bool:
    """Take a lock for as long as the connection lives, or until `unlock`;
    False when another one has it.
    """
    return try_lock_shape(connection, purpose, projection.name, projection.shape)


def try_lock_shape(connection: Connection, purpose: int, name: str, shape: int) -> bool:
    """The same for a shape that this release may not know."""
    return connection.execute(_TRY, [purpose, _lock_name(name, shape)]).fetchone() == (True,)


def unlock(connection: Connection, purpose: int, name: str, shape: int) -> None:
    """Give a lock back before the connection ends."""
    connection.execute(_UNLOCK, [purpose, _lock_name(name, shape)])


def named(projections: Iterable[Projection]) -> list[str]:
    """What their locks are called."""
    return [_lock_name(projection.name, projection.shape) for projection in projections]


def _lock_name(name: str, shape: int) -> str:
    return f"{name}/{shape}"

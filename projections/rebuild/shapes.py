"""The versions of a view that a release needs, and those that no release does."""

from collections.abc import Sequence
from typing import Final

from psycopg import Connection

from projections.follow import locks, positions, read_log
from projections.projection import Projection
from projections.rebuild import requests as rebuild_requests

BULK_FROM: Final = 20_000
"""A view of a ledger that is longer is made by a rebuild, not by the runner's batches."""


def prepare(connection: Connection, projection: Projection) -> None:
    """See to it that there is a live version of this release's shape:
    at once, or by a rebuild to come.
    """
    if positions.live_position(connection, projection) is not None:
        return
    if read_log.head(connection) <= BULK_FROM:
        positions.ensure_live(connection, projection)
    else:
        rebuild_requests.request(connection, projection)


def drop_old(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Drop what nobody reads any more; returns the names of the tables.

    That is: versions that were switched away from, the leftovers of interrupted rebuilds, and the
    live versions of older shapes, unless a runner of that release still keeps them up.
    """
    dropped: list[str] = []
    for projection in projections:
        for version, shape, role in connection.execute(
            positions.OF_SHAPES_UNTIL, [projection.name, projection.shape]
        ).fetchall():
            if role == "live" and shape == projection.shape:
                continue
            purpose = locks.LEADER if role == "live" else locks.REBUILD
            if role != "retired" and not locks.try_lock_shape(
                connection, purpose, projection.name, shape
            ):
                continue
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '5s'")
                positions.drop_version(connection, projection.name, version)
            if role != "retired":
                locks.unlock(connection, purpose, projection.name, shape)
            dropped.append(projection.table(version))
    return dropped

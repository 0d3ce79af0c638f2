"""Whether a pooler gives each transaction another session, which no session of ours would survive.

What a session states would hold for whoever gets it next, and for us no longer; prepared statements and the
locks by which one process leads the projections are of a session, too.
"""

from typing import Final

from domain.errors import SharedSession
from domain.eventstore.connection import open_connection
from domain.eventstore.session import SERVING

_SESSION: Final = "SELECT pg_backend_pid()"


def require_own_session(conninfo: str) -> None:
    """Raise SharedSession where two connections that are open at once do not have a session each.

    In the order one, other, other, one: a pooler that gives out the session used last gives both the same,
    and one that gives them out in turn gives one of the two another than before. In session mode, and without
    a pooler, each keeps its own. Raises StoreUnavailable.
    """
    with (
        open_connection(conninfo, session=SERVING) as one,
        open_connection(conninfo, session=SERVING) as other,
    ):
        seen = [connection.execute(_SESSION).fetchone() for connection in (one, other, other, one)]
    if seen[0] == seen[1] or seen[0] != seen[3] or seen[1] != seen[2]:
        raise SharedSession

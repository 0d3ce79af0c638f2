"""Detect a pooler in transaction mode, which would break our sessions.

What a session states would hold for whoever gets it next, and for us no longer; prepared statements
and the locks by which one process leads the projections are of a session, too.
"""

from typing import Final

from domain.errors import SharedSession
from domain.postgres.connection import open_connection
from domain.postgres.session import SERVING

_SESSION: Final = "SELECT pg_backend_pid()"
_ROUNDS: Final = 25
"""A busy pool may give both what they had by chance, but not time and again. Ten milliseconds."""


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

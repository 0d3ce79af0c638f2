"""Check the rows that are kept beside the streams, of which the ledger check reads those of each
stream: that some event tells of each, that API tokens are listed as they are, and that no view is
ahead of the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from psycopg import Connection

from domain.errors import LedgerError
from domain.postgres.sql_file import statements, with_names

SLICE: Final = 10_000
NO_STREAM: Final = UUID(int=0)

_SQL: Final = statements("projections", "kept_rows.sql")
_KEPT: Final = {
    "head": ("ledger", "stream_heads"),
    "state row": ("ledger", "aggregates"),
    "list row": ("ledger", "api_tokens"),
    "secret": ("ledger", "secrets"),
}
"""What is kept of a stream beside its events, and in which table."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The first thing that is wrong. where: which row. what: in which way, without its content."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Damaged(LedgerError):
    """Something is wrong with the ledger; damage: what, and the text is the same."""

    def __init__(self, where: str, what: str) -> None:
        self.damage = Damage(where, what)
        super().__init__(str(self.damage))


def check_kept_rows(connection: Connection) -> None:
    """Look at all of them. Raises Damaged."""
    _check_orphans(connection)
    _check_listed(connection)
    _check_positions(connection)


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """One state of the database, for the length of a slice."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # In the order of an index whatever the statistics say: a sort would read the rest of the
        # table.
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        yield


def _check_orphans(connection: Connection) -> None:
    for kind, table in _KEPT.items():
        for id_, is_orphan in _walked(connection, with_names(_SQL["orphans"], kept=table)):
            if is_orphan:
                raise Damaged(f"the {kind} of {id_}", "no event tells of it")


def _check_listed(connection: Connection) -> None:
    for id_, is_right in _walked(connection, _SQL["listed"]):
        if not is_right:
            raise Damaged(f"the list row of {id_}", "it is not what the state row says")


def _walked(connection: Connection, statement: LiteralString) -> Iterator[tuple[UUID, bool]]:
    """Each stream of a table, and what the statement says of it; a slice in one snapshot."""
    after, is_more = NO_STREAM, True
    while is_more:
        with snapshot(connection):
            rows = connection.execute(statement, [after, SLICE], binary=True).fetchall()
        yield from rows
        is_more = len(rows) == SLICE
        after = rows[-1][0] if rows else after


def _check_positions(connection: Connection) -> None:
    for name, version, is_ahead, is_missing in connection.execute(
        _SQL["live_positions"]
    ).fetchall():
        if is_missing:
            raise Damaged(f"the view {name}", f"the table of its version {version} is missing")
        if is_ahead:
            raise Damaged(f"the view {name}", "its position is beyond the ledger's head")

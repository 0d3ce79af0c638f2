"""Compare the rows of two versions of a view, in the database."""

from dataclasses import dataclass
from typing import Final

from psycopg import Connection

from domain.eventstore.archive.removal import removable
from domain.postgres.sql_file import statements, with_names
from projections.ledger_seal import archived
from projections.projection import Projection

_SQL: Final = statements("projections.rebuild", "sql/compare.sql")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row, by key, in which two versions differ.

    Names places and never shows what is there.

    key: of the row. columns: those that differ; empty where only one version has the row.
    is_of_archive: that some events are to leave the ledger still, which the live version may have
    forgotten: `scim-ledger archive` was cut off.
    """

    view: str
    key: str
    is_missing: bool
    is_surplus: bool
    columns: tuple[str, ...]
    is_of_archive: bool = False

    def __str__(self) -> str:
        if self.is_of_archive:
            return (
                f"{self._what}, as scim-ledger archive was cut off: repeat it with --remove first"
            )
        return self._what

    @property
    def _what(self) -> str:
        if self.is_missing:
            return f"{self.view}: the row {self.key} is missing"
        if self.is_surplus:
            return f"{self.view}: the row {self.key} should not be there"
        return f"{self.view}: the row {self.key} differs in {', '.join(self.columns)}"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A version whose table is not what its shape says, so that there is nothing to compare with.

    what: in which way, without what is in it.
    """

    view: str
    what: str

    def __str__(self) -> str:
        return f"{self.view}: {self.what}"


def unreadable(
    connection: Connection, projection: Projection, live: int, new: int
) -> Unreadable | None:
    """What keeps the live version from being compared with the new one,
    which was made a moment ago.
    """
    table = projection.table(live)
    found, expected = (
        connection.execute(_SQL["columns"], [projection.table(version)]).fetchall()
        for version in (live, new)
    )
    if not found:
        return Unreadable(projection.name, f"the table {table} is missing")
    if found != expected:
        return Unreadable(projection.name, f"the columns of {table} are not those of its shape")
    if connection.execute(_SQL["may_read"], [table]).fetchone() != (True,):
        return Unreadable(projection.name, f"the table {table} may not be read")
    return None


def digest(connection: Connection, projection: Projection, version: int) -> str:
    """Of all columns of all rows, in whatever order they lie.

    The sum of the rows' 64-bit hashes, by one scan in constant memory, in parallel where PostgreSQL
    likes; it is to find mistakes, not to withstand an adversary (who could write the rows
    themselves).
    """
    statement = with_names(_SQL["digest"], table=_name(projection, version))
    row = connection.execute(statement).fetchone()
    assert row is not None
    return f"{row[0]}:{row[1]}"


def first_difference(
    connection: Connection, projection: Projection, live: int, new: int
) -> Difference | None:
    """Where the live version does not hold what the new one holds, both being at one position."""
    statement = with_names(
        _SQL["first_difference"],
        key=projection.key_column,
        live=_name(projection, live),
        new=_name(projection, new),
    )
    row = connection.execute(statement).fetchone()
    if row is None:
        return None
    found, is_missing, is_surplus, names = row
    if is_missing or is_surplus:
        names = []
    until = archived(connection).position
    is_of_archive = until > 0 and len(removable(connection, until)[0]) > 0
    return Difference(
        projection.name, found, is_missing, is_surplus, tuple(names), is_of_archive=is_of_archive
    )


def _name(projection: Projection, version: int) -> tuple[str, str]:
    schema, _, table = projection.table(version).partition(".")
    return schema, table

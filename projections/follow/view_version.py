"""One version of a view: its rows, and the position that it has come to."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.postgres import binary_arrays
from projections.follow import positions
from projections.follow.stored_keys import StoredKeys
from projections.kinds.row_per_event import RowPerEvent
from projections.kinds.row_per_key import RowPerKey
from projections.kinds.row_per_stream import RowPerStream
from projections.projection import LogEntry, Projection


class PositionMoved(Exception):
    """Somebody else moved or switched this version meanwhile; nothing was applied."""


@dataclass(frozen=True, slots=True)
class ViewVersion:
    """A version of a view, as one connection writes it.

    number: of its table. role: "live", which readers are answered from, or "building".
    """

    connection: Connection
    projection: Projection
    number: int
    role: str = "live"

    def move(self, position: int, *, after: int) -> None:
        """Record how far it has come. Raises PositionMoved when it is not `after` any more."""
        moved = self.connection.execute(
            positions.MOVE,
            [position, self.projection.name, self.number, after, self.role],
            prepare=True,
        )
        if moved.rowcount != 1:
            raise PositionMoved(self.projection.name)

    def load(self, keys: Collection[Any]) -> dict[Any, Any]:
        """The stored rows of these streams."""
        if not keys:
            return {}
        projection = self.projection
        assert isinstance(projection, RowPerStream)
        with self.connection.cursor(binary=True) as cursor:
            of_key_type = binary_arrays.OF_TYPE[projection.type_of(projection.key_column)]
            cursor.execute(projection.select_rows(self.number), [of_key_type(keys)], prepare=True)
            return {columns[0]: projection.row(*columns) for columns in cursor}

    def set_last(self, entries: Mapping[UUID, LogEntry]) -> None:
        """Set what these entries of `last_only` set. Raises LookupError when a row is not there."""
        if not entries:
            return
        projection = self.projection
        assert isinstance(projection, RowPerStream)
        assert projection.last_only is not None
        rows = [(key, *projection.last_only.values(entry)) for key, entry in entries.items()]
        names = [projection.key_column, *projection.last_only.columns]
        done = self.connection.execute(
            projection.set_last(self.number), _columns(projection, names, rows), prepare=True
        )
        if done.rowcount != len(entries):
            raise LookupError("an event of a row that is not there")

    def put(self, rows: Sequence[Any], stored_keys: StoredKeys | None = None) -> None:
        """Insert rows; stored ones are replaced or merged, as the kind of view has it.

        stored_keys: rows that would leave these as they are need not be sent.
        """
        if not rows:
            return
        projection = self.projection
        if isinstance(projection, RowPerEvent):
            self.copy(rows)
            return
        if isinstance(projection, RowPerKey):
            # A stored row that nothing is added to is not even locked, which would write it.
            rows, leaving = projection.split(rows)
            if stored_keys is not None:
                leaving = stored_keys.to_send(projection, self.number, leaving)
            self._put(projection.put_rows(self.number, keeps_stored=True), leaving)
        self._put(projection.put_rows(self.number), rows)

    def copy(self, rows: Iterable[Any]) -> None:
        """Insert rows, none of which is stored: no statement is cheaper, whatever their number."""
        projection = self.projection
        statement = projection.copy_rows(self.number)
        with self.connection.cursor() as cursor, cursor.copy(statement) as copying:
            copying.set_types(list(map(projection.type_of, projection.columns)))
            for row in rows:
                copying.write_row(projection.values(row))

    def _put(self, statement: str, rows: Sequence[Any]) -> None:
        if rows:
            projection = self.projection
            values = list(map(projection.values, rows))
            columns = _columns(projection, list(projection.columns), values)
            self.connection.execute(statement, columns, prepare=True)


def _columns(
    projection: Projection, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[binary_arrays.Array]:
    """Rows as one array for each column, since psycopg adapts a list value after value."""
    return [
        binary_arrays.OF_TYPE[projection.type_of(name)](column)
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ]

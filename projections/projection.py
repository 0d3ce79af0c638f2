"""What a projection declares: one table, and a fold of the ledger into its rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from domain.eventstore.event_registry import EventRegistry

TOPIC_MAX: Final = 100
"""Characters of an unknown topic in a message."""


class LogEntry(NamedTuple):
    """One row of the ledger, its event not decoded yet:
    most folds need no more than topic and instant.

    position: notification id. state: stored bytes, decoded by `EventRegistry.decode`.
    owner_id: whose stream it is, the team of a SCIM token or the user of an API token; read only
    for a
        projection that is `is_owned`, None otherwise and where there is no owner.
    """

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    at: datetime
    command_id: UUID
    state: bytes
    owner_id: UUID | None = None


class UnappliableEvent(Exception):
    """A projection could not apply an event; it stops there and never skips.

    position: of the event. reason: class and text of the cause, without data of the event.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"event {position}: {reason}")
        self.position = position
        self.reason = reason


class UnknownTopic(UnappliableEvent):
    """No event of this release has this topic:
    a newer release has written it, and is to lead the view.

    topic: as it is stored, which may be any text.
    """

    def __init__(self, position: int, topic: str) -> None:
        super().__init__(
            position, f"unknown topic {topic[:TOPIC_MAX]!a}: was it written by a newer release?"
        )


@dataclass(frozen=True)
class Projection:
    """A view: its table and how events change its rows.

    One module each; the list is `registry.PROJECTIONS`.

    name, shape: `shape` grows when the columns or the fold change; the service then builds the new
    one
        beside the old and switches when it has caught up.
    columns: name to SQL type, in order; the first is the primary key.
    stored: how many of them, from the first, make a row that `apply` works on. The rest is derived.
    indexes: what follows ON <table>, by a suffix for the index's name.
    topics: what it folds. Anything else only moves its position.
    key: which row an entry changes, where rows are loaded (without `merge`).
    apply: folds entries, in order, into the rows given by key; new keys are added. A row is a list.
    derive: the values of the derived columns of a row, where there are any.
    is_owned: whether `apply` needs each entry's `owner_id`.
    decodes: topics of which the fold reads more than position, originator and instant; None for
    all. A
        rebuild leaves the command ids and states of the others in the database.
    last_only: topics whose entries make each other void and leave alone what all others of the
    stream change:
        the last one is enough, wherever it comes after the stream's first entry, which is of
        another topic. A rebuild lets the database leave out the others.
    touched, touch: the columns that an entry of `last_only` sets, and their values, whatever the
    row held
        before; such a row must exist. It is then set without being loaded and folded, which must
        come to the same.
    merge: for a view that folds a batch without what is stored, how a row of the batch goes onto
    the stored
        one: SQL by column, of `stored` and `excluded`; a column not named stays. None: rows are
        loaded.
    is_append_only: each entry has a row of its own, so that nothing is ever stored already.
    gathered: columns of which the planner knows how often each value is there.
    fillfactor: per cent of a page that inserts fill; 100 where rows never change, less where they
    often do.
    """

    name: str
    shape: int
    columns: Mapping[str, str]
    stored: int
    indexes: Mapping[str, str]
    topics: frozenset[str]
    apply: Callable[[dict[Any, list[Any]], Iterable[LogEntry], EventRegistry], None]
    derive: Callable[[list[Any]], Sequence[Any]] | None = None
    key: Callable[[LogEntry], Any] = attrgetter("originator_id")
    is_owned: bool = False
    decodes: frozenset[str] | None = None
    last_only: frozenset[str] = frozenset()
    touched: Sequence[str] = ()
    touch: Callable[[LogEntry], Sequence[Any]] | None = None
    merge: Mapping[str, str] | None = None
    is_append_only: bool = False
    gathered: frozenset[str] = frozenset()
    fillfactor: int = 80

    @property
    def key_column(self) -> str:
        """Name of the primary key."""
        return next(iter(self.columns))

    def type_of(self, name: str) -> str:
        """SQL type of a column, without its constraints."""
        return self.columns[name].split()[0]

    def table(self, version: int) -> str:
        """Qualified name of one built version."""
        return f"views.{self.name}_v{version}"

    def create_table(self, version: int) -> str:
        """DDL without secondary indexes: a rebuild adds them when the rows are in.

        Statistics of values are gathered of `gathered` alone, so that no other plan depends on
        them: on a team that had nearly all tokens the day before, or on their absence in the first
        minute. Sizes are, when the table has doubled, as rows that are rewritten for each use
        change none.
        """
        columns = ", ".join(f"{name} {type_}" for name, type_ in self.columns.items())
        unknown = ", ".join(
            f"ALTER {name} SET STATISTICS 0" for name in self.columns if name not in self.gathered
        )
        return (
            f"CREATE TABLE {self.table(version)} ({columns}) "
            f"WITH (fillfactor = {self.fillfactor}, autovacuum_analyze_scale_factor = 1); "
            f"ALTER TABLE {self.table(version)} {unknown}"
        )

    def create_indexes(self, version: int) -> list[str]:
        """DDL of the primary key and of every index."""
        table = self.table(version)
        return [
            f"ALTER TABLE {table} ADD PRIMARY KEY ({self.key_column})",
            *(
                f"CREATE INDEX {self.name}_v{version}_{suffix} ON {table} {definition}"
                for suffix, definition in self.indexes.items()
            ),
        ]

    def select_rows(self, version: int) -> str:
        """SQL: the stored columns of the rows with the keys of one array parameter."""
        names = list(self.columns)
        return (
            f"SELECT {', '.join(names[: self.stored])} FROM {self.table(version)} "
            f"WHERE {names[0]} = ANY(%s)"
        )

    def copy_rows(self, version: int) -> bytes:
        """SQL: COPY of new rows, all columns, in binary form."""
        return f"COPY {self.table(version)} FROM STDIN (FORMAT binary)".encode()

    def put_rows(self, version: int) -> str:
        """SQL: insert rows, or replace or merge stored ones; one array parameter per column."""
        names = list(self.columns)
        return (
            f"INSERT INTO {self.table(version)} AS stored ({', '.join(names)}) "
            f"SELECT * FROM unnest({self._arrays(names)}) {self._on_conflict()}"
        )

    def _on_conflict(self) -> str:
        merge = self.merge
        if merge is None:
            merge = {name: f"excluded.{name}" for name in self.columns if name != self.key_column}
        updates = ", ".join(f"{name} = {value}" for name, value in merge.items())
        return f"ON CONFLICT ({self.key_column}) DO " + (
            f"UPDATE SET {updates}" if updates else "NOTHING"
        )

    def touch_rows(self, version: int) -> str:
        """SQL: set the touched columns, one array parameter for the keys and
        one for each of them.
        """
        key, names = self.key_column, [self.key_column, *self.touched]
        updates = ", ".join(f"{name} = new.{name}" for name in self.touched)
        return (
            f"UPDATE {self.table(version)} row SET {updates} "
            f"FROM unnest({self._arrays(names)}) AS new ({', '.join(names)}) "
            f"WHERE row.{key} = new.{key}"
        )

    def whole(self, row: list[Any]) -> Sequence[Any]:
        """A row that `apply` made, with its derived columns."""
        return row if self.derive is None else [*row, *self.derive(row)]

    def _arrays(self, names: Sequence[str]) -> str:
        return ", ".join(f"%s::{self.type_of(name)}[]" for name in names)

"""What a projection declares: one table, and a fold of the ledger into its rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from domain.eventstore.event_registry import EventRegistry

TOPIC_MAX: Final = 100
"""Characters of an unknown topic in a message."""


class LogEntry(NamedTuple):
    """One row of the ledger, its event not decoded yet.

    position: notification id. state: stored bytes, decoded by `EventRegistry.decode`.
    stream_team: the team of a SCIM token's stream, the user of an API token's; read only for a
    projection that `needs_stream_team`, None otherwise and where there is none.
    """

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    at: datetime
    command_id: UUID
    state: bytes
    stream_team: UUID | None = None


class UnappliableEvent(Exception):
    """A projection could not apply an event; it stops there and never skips.

    position: of the event. reason: class and text of the cause, without data of the event.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"event {position}: {reason}")
        self.position = position
        self.reason = reason


class UnknownTopic(UnappliableEvent):
    """No event of this release has this topic; a newer release has written it.

    The newer release is to lead the view.

    topic: as it is stored, which may be any text.
    """

    def __init__(self, position: int, topic: str) -> None:
        super().__init__(
            position, f"unknown topic {topic[:TOPIC_MAX]!a}: was it written by a newer release?"
        )


@dataclass(frozen=True, kw_only=True)
class Projection(ABC):
    """A view: its table, and which events change its rows. Each is of one of the three `kinds`.

    name, shape: `shape` grows when the columns or the fold change; the service then builds the new
    one beside the old one and switches when it has caught up.
    row: the struct that the fold works on. Its fields are the first columns, in order.
    columns: name to SQL type, in order; the first is the primary key. Columns behind those of the
    row are derived from it.
    topics: the events that change it. Any other only moves its position.
    needs_stream_team: whether the fold reads the `stream_team` of entries, which costs a look-up.
    indexes: what follows ON <table>, by a suffix for the index's name.
    gathered: columns of which the planner knows how often each value is there.
    fillfactor: per cent of a page that inserts fill; 100 where rows never change, less where they
    often do.
    """

    name: str
    shape: int
    row: type[msgspec.Struct]
    columns: Mapping[str, str]
    topics: frozenset[str]
    indexes: Mapping[str, str] = field(default_factory=dict)
    needs_stream_team: bool = False
    gathered: frozenset[str] = frozenset()
    fillfactor: int = 80

    def __post_init__(self) -> None:
        """Assert that row and columns name the same things."""
        fields = self.row.__struct_fields__
        assert tuple(self.columns)[: len(fields)] == fields, f"{self.name}: row and columns differ"

    @abstractmethod
    def fold(
        self, rows: dict[Any, Any], entries: Iterable[LogEntry], registry: EventRegistry
    ) -> None:
        """Fold entries of `topics`, in order, into the rows by key; new keys are added."""

    def values(self, row: Any) -> Sequence[Any]:
        """The values of all columns."""
        return astuple(row)

    @property
    def decoded(self) -> frozenset[str]:
        """Topics of which the fold reads more than position, originator and instant.

        A rebuild leaves the command ids and states of the others in the database.
        """
        return self.topics

    @property
    def last_only_topics(self) -> frozenset[str]:
        """Topics of which the last entry of each stream is enough; a rebuild reads no other."""
        return frozenset()

    @property
    def replaced(self) -> Mapping[str, str]:
        """SQL by column, of `stored` and `excluded`: what a row makes of the stored one."""
        return {}

    @property
    def key_column(self) -> str:
        """Name of the primary key."""
        return next(iter(self.columns))

    def type_of(self, name: str) -> str:
        """SQL type of a column, without its constraints."""
        return self.columns[name].split()[0]

    def definition(self, name: str) -> str:
        """DDL of a column.

        The order of texts is that of their bytes: an index that the operating system's order made
        misses rows once an upgrade of the system has changed that order.
        """
        type_, blank, constraints = self.columns[name].partition(" ")
        collation = ' COLLATE "C"' if type_ in {"text", "text[]"} else ""
        return f"{name} {type_}{collation}{blank}{constraints}"

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
        columns = ", ".join(map(self.definition, self.columns))
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

    def copy_rows(self, version: int) -> bytes:
        """SQL: COPY of new rows, all columns, in binary form."""
        return f"COPY {self.table(version)} FROM STDIN (FORMAT binary)".encode()

    def put_rows(self, version: int, *, keeps_stored: bool = False) -> str:
        """SQL: insert rows; stored ones are replaced or kept; one array parameter per column."""
        names = list(self.columns)
        replaced = {} if keeps_stored else self.replaced
        updates = ", ".join(f"{name} = {value}" for name, value in replaced.items())
        action = f"UPDATE SET {updates}" if updates else "NOTHING"
        return (
            f"INSERT INTO {self.table(version)} AS stored ({', '.join(names)}) "
            f"SELECT * FROM unnest({self.arrays(names)}) "
            f"ON CONFLICT ({self.key_column}) DO {action}"
        )

    def arrays(self, names: Sequence[str]) -> str:
        """SQL: array parameters of the types of these columns."""
        return ", ".join(f"%s::{self.type_of(name)}[]" for name in names)

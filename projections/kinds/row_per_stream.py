"""A row for each stream: what is known of one aggregate, such as a token and its last use."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import astuple

from domain.event import Event
from domain.eventstore.event_registry import EventRegistry
from projections.projection import LogEntry, Projection


@dataclass(frozen=True, kw_only=True)
class LastOnly:
    """An event of which only the last of a stream matters, wherever it comes.

    It sets these columns, derived ones included, whatever the row held, and no other event does.
    A batch then sets them without loading the row; a rebuild reads the last one of each stream.
    What `values` sets must be what `evolve` comes to.
    """

    event: type[Event]
    columns: Sequence[str]
    values: Callable[[LogEntry], Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class RowPerStream(Projection):
    """A view whose rows evolve, one for each stream; the key is the stream's id.

    first, create: the event that a stream begins with, and the row that it makes.
    evolve: for each later event, the row after it, from (row before, entry, decoded event).
    instant_only: events of which no more than the instant is read; `evolve` gets None for them.
    last_only: see there. render: the values of the columns behind those of the row.
    """

    first: type[Event]
    create: Callable[[LogEntry, Any], Any]
    evolve: Mapping[type[Event], Callable[[Any, LogEntry, Any], Any]]
    instant_only: frozenset[type[Event]] = frozenset()
    last_only: LastOnly | None = None
    render: Callable[[Any], Sequence[Any]] | None = None
    topics: frozenset[str] = field(init=False)
    _decoded: frozenset[str] = field(init=False, repr=False)
    _evolve: Mapping[str, Callable[[Any, LogEntry, Any], Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Look the events up by topic, as entries name them."""
        super().__post_init__()
        by_topic = {event.topic: step for event, step in self.evolve.items()}
        topics = frozenset({self.first.topic, *by_topic})
        object.__setattr__(self, "_evolve", by_topic)
        object.__setattr__(self, "topics", topics)
        object.__setattr__(self, "_decoded", topics - {event.topic for event in self.instant_only})

    def fold(
        self, rows: dict[Any, Any], entries: Iterable[LogEntry], registry: EventRegistry
    ) -> None:
        """Raises KeyError for an event of a stream that has no row."""
        first, create, evolve, decoded = self.first.topic, self.create, self._evolve, self._decoded
        for entry in entries:
            topic, key = entry.topic, entry.originator_id
            event = registry.decode(topic, entry.state) if topic in decoded else None
            if topic == first:
                rows[key] = create(entry, event)
            else:
                rows[key] = evolve[topic](rows[key], entry, event)

    def values(self, row: Any) -> Sequence[Any]:
        """The fields of the row and what is derived from them."""
        fields = astuple(row)
        return fields if self.render is None else (*fields, *self.render(row))

    @property
    def decoded(self) -> frozenset[str]:
        """All but `instant_only`."""
        return self._decoded

    @property
    def last_only_topics(self) -> frozenset[str]:
        """That of `last_only`."""
        return frozenset() if self.last_only is None else frozenset({self.last_only.event.topic})

    @property
    def replaced(self) -> Mapping[str, str]:
        """All columns: the row was loaded before it evolved."""
        return {name: f"excluded.{name}" for name in self.columns if name != self.key_column}

    def select_rows(self, version: int) -> str:
        """SQL: the rows with the keys of one array parameter, without derived columns."""
        return (
            f"SELECT {', '.join(self.row.__struct_fields__)} FROM {self.table(version)} "
            f"WHERE {self.key_column} = ANY(%s)"
        )

    def set_last(self, version: int) -> str:
        """SQL: set what `last_only` sets, one array parameter for the keys and for each column."""
        assert self.last_only is not None
        key, names = self.key_column, [self.key_column, *self.last_only.columns]
        updates = ", ".join(f"{name} = new.{name}" for name in self.last_only.columns)
        return (
            f"UPDATE {self.table(version)} row SET {updates} "
            f"FROM unnest({self.arrays(names)}) AS new ({', '.join(names)}) "
            f"WHERE row.{key} = new.{key}"
        )

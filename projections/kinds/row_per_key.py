"""A row for each key that events share, such as a count by hour or the first of a kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from domain.eventstore.event_registry import EventRegistry
from projections.projection import LogEntry, Projection


@dataclass(frozen=True, kw_only=True)
class RowPerKey(Projection):
    """A view whose rows add up. A batch is folded without what is stored, then merged with it.

    row: not frozen, since it adds up in place: half a microsecond less for each use.
    row_of: what an entry and its decoded event contribute, None for nothing.
    sums: the columns that are added. firsts, lasts: those that keep the first or take the last
    value that is not None. The others stay as the first contribution to a key set them.
    """

    row_of: Callable[[LogEntry, Any], Any]
    sums: Sequence[str] = ()
    firsts: Sequence[str] = ()
    lasts: Sequence[str] = ()

    def fold(
        self, rows: dict[Any, Any], entries: Iterable[LogEntry], registry: EventRegistry
    ) -> None:
        """Add up what the entries contribute to each key."""
        row_of, decode, sums = self.row_of, registry.decode, self.sums
        firsts, lasts = self.firsts, self.lasts
        key_of, known_row = attrgetter(self.key_column), rows.get
        for entry in entries:
            row = row_of(entry, decode(entry.topic, entry.state))
            if row is None:
                continue
            key = key_of(row)
            known = known_row(key)
            if known is None:
                rows[key] = row
                continue
            for name in sums:
                if added := getattr(row, name):
                    setattr(known, name, getattr(known, name) + added)
            for name in lasts:
                if (last := getattr(row, name)) is not None:
                    setattr(known, name, last)
            for name in firsts:
                if getattr(known, name) is None:
                    setattr(known, name, getattr(row, name))

    def split(self, rows: Iterable[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """The rows that change a stored one of their key, and those that leave it as it is."""
        names = (*self.sums, *self.firsts, *self.lasts)
        changing: list[Any] = []
        leaving: list[Any] = []
        for row in rows:
            for name in names:
                if getattr(row, name):
                    changing.append(row)
                    break
            else:
                leaving.append(row)
        return changing, leaving

    @property
    def replaced(self) -> Mapping[str, str]:
        """The sums, the firsts and the lasts; everything else stays."""
        return (
            {name: f"stored.{name} + excluded.{name}" for name in self.sums}
            | {name: f"coalesce(stored.{name}, excluded.{name})" for name in self.firsts}
            | {name: f"coalesce(excluded.{name}, stored.{name})" for name in self.lasts}
        )

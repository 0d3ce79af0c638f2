"""A row for each event, such as an audit trail: it is added once and never changed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from domain.eventstore.event_registry import EventRegistry
from projections.projection import LogEntry, Projection


@dataclass(frozen=True, kw_only=True)
class RowPerEvent(Projection):
    """A view that only grows; the key is the event's position.

    row_of: the row of an entry and its decoded event.
    """

    row_of: Callable[[LogEntry, Any], Any]
    fillfactor: int = 100

    def fold(
        self, rows: dict[Any, Any], entries: Iterable[LogEntry], registry: EventRegistry
    ) -> None:
        """One row per entry, whatever was there before."""
        row_of, decode = self.row_of, registry.decode
        for entry in entries:
            rows[entry.position] = row_of(entry, decode(entry.topic, entry.state))

"""Convert between the library's stored events and our recorded ones."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, Notification, StoredEvent

from domain.event import Recorded
from domain.eventstore.event_registry import EventRegistry


@dataclass(frozen=True)
class LedgerEvent(StoredEvent):
    """A stored event with the two columns that our table adds."""

    at: datetime
    command_id: UUID


@dataclass(frozen=True)
class LedgerNotification(Notification):
    """A notification with the same two columns."""

    at: datetime
    command_id: UUID


class LedgerMapper(Mapper[UUID]):
    """Maps through the closed registry; the library's topic resolution is never reached."""

    def __init__(self, registry: EventRegistry) -> None:
        super().__init__(transcoder=JSONTranscoder())
        self._registry = registry

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> LedgerEvent:
        """The columns of a recorded event."""
        assert isinstance(domain_event, Recorded), domain_event
        return LedgerEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=domain_event.event.topic,
            state=self._registry.encode(domain_event.event),
            at=domain_event.at,
            command_id=domain_event.command_id,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Recorded:
        """The recorded event in its newest version. Raises UnreadableEvent."""
        assert isinstance(stored_event, LedgerEvent | LedgerNotification), stored_event
        assert isinstance(stored_event.originator_id, UUID)
        return Recorded(
            originator_id=stored_event.originator_id,
            originator_version=stored_event.originator_version,
            at=stored_event.at,
            command_id=stored_event.command_id,
            event=self._registry.decode(stored_event.topic, stored_event.state),
        )

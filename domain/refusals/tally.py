"""The `RefusalTally` aggregate: the number of presentations that named no token. Pure.

They come in floods and from anybody, so they never make an event each: one aggregate per reason,
door and minute, to which every process adds what it counted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final, NamedTuple
from uuid import UUID, uuid5

import msgspec

from domain.event import Event, Recorded, WithoutSecrets, next_version

_NAMESPACE: Final = UUID("6f1d2c0a-6f0e-4d0b-9a55-3c1c8f1f6b52")


class TallyKey(NamedTuple):
    """What is counted together.

    reason: "missing", "malformed", "ambiguous", "unknown" or "throttled".
    door: as in `Presentation.door`. minute: its first instant, aware UTC.
    """

    reason: str
    door: str
    minute: datetime

    @property
    def id(self) -> UUID:
        """The aggregate's id: the same in every process."""
        return uuid5(_NAMESPACE, f"{self.reason} {self.door} {self.minute:%Y-%m-%dT%H:%MZ}")


class Counted(Event, frozen=True, forbid_unknown_fields=True):
    """Presentations were refused; a process adds them up for a few seconds.

    count: how many more, at least 1. reason, door, minute: see `TallyKey`.
    """

    topic: ClassVar[str] = "refusal_tally.counted.v1"
    reason: str
    door: str
    minute: datetime
    count: int


EVENTS: Final[Sequence[type[Event]]] = (Counted,)


class RefusalTally(WithoutSecrets, frozen=True):
    """State after `version` events."""

    id: UUID
    version: int
    reason: str
    door: str
    minute: datetime
    count: int

    @staticmethod
    def add(key: TallyKey, count: int) -> list[Counted]:
        """Count `count` more refusals. The counting is ours: a wrong one is our mistake."""
        assert count > 0, count
        assert key.minute.second == key.minute.microsecond == 0, key.minute
        return [Counted(reason=key.reason, door=key.door, minute=key.minute, count=count)]


def evolve(tally: RefusalTally | None, recorded: Recorded) -> RefusalTally:
    """Fold one recorded event into the state."""
    event = recorded.event
    assert isinstance(event, Counted), event
    version = next_version(tally, recorded)
    if tally is None:
        return RefusalTally(
            id=recorded.originator_id,
            version=version,
            reason=event.reason,
            door=event.door,
            minute=event.minute,
            count=event.count,
        )
    return msgspec.structs.replace(tally, version=version, count=tally.count + event.count)

"""The aggregate `Archive`: which stretch of the ledger is written out into files. Pure.

Uses and refusals are nearly all events, and years of them are asked for rarely. The oldest stretch
is written out as a whole, and then those of its uses and refusals that nothing of the present rests
on leave the ledger. Every other event stays.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID, uuid5

import msgspec

from domain.api_token import events as api_token
from domain.errors import Refusal
from domain.event import Actor, Event, Recorded, WithoutSecrets, next_version
from domain.scim_token import events as scim_token

ARCHIVE_ID: Final = uuid5(UUID("a1f6b0de-58f5-4c0b-8a3e-0d7d2f0c9b11"), "archive")
"""The one stream of it; the function `ledger.require_known` (0025, 0026) knows it, too."""

LEAVING: Final = (
    scim_token.Used.topic,
    scim_token.Refused.topic,
    api_token.Used.topic,
    api_token.Refused.topic,
)
"""Topics of the events that may leave the ledger. See `removable` in `archive.sql` for which do."""


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of the ledger that is written out.

    after, until: the positions that it lies between; `until` is of its last event. before: the
    instant that all its events are before. events: how many it has.
    removed: how many events up to `until` are not needed any more, also of stretches before it.
    uses: how many uses they stand for. seal: of all events up to `until`, 64 hex digits; see
    `projections/ledger_seal.py`. file_digest: SHA-256 of the file, 64 hex digits.
    """

    after: int
    until: int
    before: datetime
    events: int
    removed: int
    uses: int
    seal: str
    file_digest: str


class Extended(Event, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The archive was extended by a stretch; what is `removed` leaves the ledger after this.

    Fields as in `Stretch`. archived_by: who ran the command.
    """

    topic: ClassVar[str] = "archive.extended.v1"
    after: int
    until: int
    before: datetime
    events: int
    removed: int
    uses: int
    seal: str
    file_digest: str
    archived_by: Actor


EVENTS: Final[Sequence[type[Event]]] = (Extended,)


class Archive(WithoutSecrets, frozen=True):
    """State after `version` events.

    until, before: of the last stretch.
    """

    id: UUID
    version: int
    until: int
    before: datetime


class NotTheNextStretch(Refusal):
    """Another command has extended the archive meanwhile."""


def extend(archive: Archive | None, stretch: Stretch, *, by: Actor) -> list[Extended]:
    """Write down that a stretch is in the archive. Raises NotTheNextStretch."""
    if stretch.after != (0 if archive is None else archive.until):
        raise NotTheNextStretch("another command has extended the archive meanwhile: repeat it")
    return [
        Extended(
            after=stretch.after,
            until=stretch.until,
            before=stretch.before,
            events=stretch.events,
            removed=stretch.removed,
            uses=stretch.uses,
            seal=stretch.seal,
            file_digest=stretch.file_digest,
            archived_by=by,
        )
    ]


def in_words(event: Extended) -> str:
    """The stretch for the audit trail, e.g. "events 1 to 150, of which 90 left the ledger"."""
    return f"events {event.after + 1} to {event.until}; {event.removed} left the ledger"


def evolve(archive: Archive | None, recorded: Recorded) -> Archive:
    """Fold one recorded event into the state."""
    event = recorded.event
    assert isinstance(event, Extended), event
    version = next_version(archive, recorded)
    return Archive(recorded.originator_id, version, event.until, event.before)

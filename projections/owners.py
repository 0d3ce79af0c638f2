"""Whose streams the entries of a batch are, for folds of events that do not say so themselves.

The owner is a fact of a stream's first event and never changes. It is read from the state row, which is
written in the same transaction as that event and never deleted: by primary key, from the small table that the
gate keeps warm, and so the same for one event as for a rebuild of all. Nothing is kept between batches, but
by a rebuild: there the streams of one batch are mostly those of the batches before.
"""

from collections.abc import Sequence
from typing import Final, LiteralString
from uuid import UUID

import msgspec
from psycopg import Connection

from domain.eventstore import arrays
from projections.projection import LogEntry

FIND: Final[LiteralString] = (
    "SELECT originator_id, state FROM ledger.aggregates WHERE originator_id = ANY(%s)"
)
"""By primary key, in no order."""


class _Owned(msgspec.Struct, frozen=True):
    """The part of a state that names an owner: the team of a SCIM token, the user of an API token."""

    team_id: UUID | None = None
    user_id: UUID | None = None


_decoder: Final = msgspec.json.Decoder(_Owned)


def with_owners(
    connection: Connection, entries: Sequence[LogEntry], known: dict[UUID, UUID | None] | None = None
) -> list[LogEntry]:
    """The same entries, each with its `owner_id`.

    known: owners that were found before, by stream; those that are found now are added.
    """
    if not entries:
        return []
    owners = {} if known is None else known
    asked = {entry.originator_id for entry in entries} - owners.keys()
    if asked:
        with connection.cursor(binary=True) as cursor:
            cursor.execute(FIND, [arrays.uuids(asked)], prepare=True)
            owners |= {id_: _owner(state) for id_, state in cursor}
    return [LogEntry._make((*entry[:7], owners.get(entry.originator_id))) for entry in entries]


def _owner(state: bytes) -> UUID | None:
    owned = _decoder.decode(state)
    return owned.team_id or owned.user_id

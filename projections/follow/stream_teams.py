"""Find the team of each stream in a batch, for events that do not name it.

The team is a fact of a stream's first event and never changes, so it may be remembered. It is read
from the state row, which is written in the same transaction as that event and never deleted: by
primary key, from the small table that the gate keeps warm.
"""

from collections.abc import Sequence
from typing import Final, LiteralString
from uuid import UUID

import msgspec
from psycopg import Connection

from domain.postgres import binary_arrays
from projections.projection import LogEntry

FIND: Final[LiteralString] = (
    "SELECT originator_id, state FROM ledger.aggregates WHERE originator_id = ANY(%s)"
)
"""By primary key, in no order."""

MAX_KNOWN: Final = 50_000
"""Streams; about 15 MB."""


class _WithTeam(msgspec.Struct, frozen=True):
    """The part of a state that says whose it is: a SCIM token's team, an API token's user."""

    team_id: UUID | None = None
    user_id: UUID | None = None


_decoder: Final = msgspec.json.Decoder(_WithTeam)


class StreamTeams:
    """Finds teams, and remembers them: one batch is mostly of the streams of those before it.

    max_known: how many it remembers before it starts anew.
    """

    def __init__(self, *, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._known: dict[
            int, UUID | None
        ] = {}  # by the number of the id: UUIDs are hashed by Python code

    def with_teams(self, connection: Connection, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """The same entries, each with its `stream_team`."""
        if len(self._known) > self._max_known:
            self._known.clear()
        known = self._known
        asked = {entry.originator_id for entry in entries if entry.originator_id.int not in known}
        if asked:
            with connection.cursor(binary=True) as cursor:
                cursor.execute(FIND, [binary_arrays.uuids(asked)], prepare=True)
                known |= {id_.int: _team(state) for id_, state in cursor}
        return [
            LogEntry._make((*entry[:7], known.get(entry.originator_id.int))) for entry in entries
        ]


def _team(state: bytes) -> UUID | None:
    found = _decoder.decode(state)
    return found.team_id or found.user_id

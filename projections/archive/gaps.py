"""Gaps in the streams: what is missing of the ledger is what its archive has."""

from collections.abc import Sequence
from typing import Final

from psycopg import Connection

from domain.archive.extended import LEAVING, Extended
from domain.eventstore.archive.stretches import stretches
from projections.kept_rows import Damaged

_KINDS: Final = frozenset(topic.partition(".")[0] for topic in LEAVING)


class Gaps:
    """What the ledger says has left it, and what is missing. The archive may be extended meanwhile.

    missing, uses: events that are not there, and how many uses these are.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._at_first: Sequence[Extended] = ()
        self._known: Sequence[Extended] = ()
        self.missing = 0
        self.uses = 0

    def begin(self) -> None:
        """Look at what has left, before the streams. Raises ArchiveDamaged, as all of these do."""
        self._at_first = self._known = stretches(self._connection)

    def may_be(self, kind: str, position: int) -> bool:
        """Whether a stream of this kind may have one behind the event at this position."""
        if kind not in _KINDS:
            return False
        if position >= self._until():
            self._known = stretches(self._connection)
        return position < self._until()

    def check(self) -> None:
        """What is missing is what has left; of the last stretch it may not have yet.

        Raises Damaged.
        """
        known = stretches(self._connection)
        for name, missing in (("removed", self.missing), ("uses", self.uses)):
            least, most = _told(self._at_first[:-1], name), _told(known, name)
            if not least <= missing <= most:
                what = "uses" if name == "uses" else "events"
                raise Damaged(
                    "the archive", f"{missing} {what} have left the ledger, and it tells of {most}"
                )

    def _until(self) -> int:
        return self._known[-1].until if self._known else 0


def _told(known: Sequence[Extended], name: str) -> int:
    return sum(getattr(stretch, name) for stretch in known)

"""Extend the archive: stretch by stretch, each is in its file and on record before anything of it
leaves the views, and then the ledger.

Cut off anywhere, the next run goes on: a file without a record is written again, and what is on
record and has not left yet leaves first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from psycopg import Connection

from domain.archive.extended import Stretch
from domain.eventstore.archive.removal import removable, remove, require_owner
from domain.eventstore.archive.stretches import (
    Span,
    count,
    last_before,
    next_span,
    stretches,
    take_turn,
)
from projections.archive.forgetting import batches, forget, views_held
from projections.archive.leftovers import clear_leftovers
from projections.archive.segment import (
    Manifest,
    SegmentUnusable,
    file_name,
    is_deleted,
    write_segment,
)
from projections.ledger_seal import Seal, archived


class Extent(NamedTuple):
    """events: how many are written out. removed: how many of the ledger's are not needed more."""

    events: int
    removed: int


def planned(app: Connection, before: datetime) -> Extent:
    """What a run would do, in one piece. before: see `horizon`."""
    after = archived(app).position
    until = last_before(app, before, after=after)
    positions, _ = removable(app, until or after)
    return Extent(0 if until is None else count(app, after=after, until=until), len(positions))


@dataclass(frozen=True, slots=True)
class Extending:
    """One run.

    app: autocommit, the app role. owner: autocommit, the role that may delete events.
    directory: of the archive. record: stores that a stretch is archived, durably.
    """

    app: Connection
    owner: Connection
    directory: Path
    record: Callable[[Stretch], None]

    def run(self, before: datetime, *, report: Callable[[Span], None] = lambda _: None) -> Extent:
        """All that is before an instant, which is a full hour. report: told each stretch.

        Raises MayNotRemove, AnotherExtends, ViewsNotReady, SegmentUnusable, Damaged,
        UnreadableEvent.
        """
        take_turn(self.app)
        require_owner(self.owner)
        self._require_place()
        clear_leftovers(self.app, self.directory, stretches(self.app))
        start = archived(self.app)
        left_over, _ = removable(self.app, start.position)
        self._remove(left_over, start.position)
        events, removed = 0, len(left_over)
        while span := next_span(self.app, after=start.position, horizon=before):
            with views_held(self.owner, until=span.until):
                pass  # or nothing is begun
            leaving, uses = removable(self.app, span.until)
            manifest, start = write_segment(self.app, self.directory, start=start, until=span.until)
            self.record(_stretch(span, manifest, start, removed=len(leaving), uses=uses))
            self._remove(leaving, span.until)
            events, removed = events + manifest.events, removed + len(leaving)
            report(span)
        return Extent(events, removed)

    def _require_place(self) -> None:
        """The archive goes on where it is: a directory that is mistyped would split it."""
        last = next(reversed(stretches(self.app)), None)
        if last is None:
            return
        name = file_name(last.after, last.until)
        if not ((path := self.directory / name).is_file() or is_deleted(path)):
            raise SegmentUnusable(
                f"{name}, the last file of the archive, is not in {self.directory}: name the "
                "directory that has it, or put it there"
            )

    def _remove(self, leaving: Sequence[int], until: int) -> None:
        if not leaving:
            return
        with views_held(self.owner, until=until):
            forget(self.app, leaving, until=until)
            for some in batches(leaving):
                remove(self.owner, some)


def _stretch(span: Span, manifest: Manifest, seal: Seal, *, removed: int, uses: int) -> Stretch:
    return Stretch(
        after=span.after,
        until=span.until,
        before=span.before,
        events=manifest.events,
        removed=removed,
        uses=uses,
        seal=seal.hash.hex(),
        file_digest=manifest.sha256,
    )

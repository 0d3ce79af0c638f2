"""Check the archive: its files are those that the ledger tells of, and what the ledger still has of
their events is the same.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from psycopg import Connection

from domain.archive.extended import LEAVING, Extended
from domain.eventstore.archive.stretches import ArchiveDamaged, stretches
from projections.archive.segment import (
    ArchivedEvent,
    Manifest,
    SegmentUnusable,
    file_name,
    is_deleted,
    read_segment,
    require_manifest,
    sealed_with,
    stored_events,
)
from projections.kept_rows import SLICE, Damage, Damaged
from projections.ledger_seal import OF_NOTHING, Seal, difference

_OTHER: Final = "it is not what the archive says"
_DELETED: Final = "the file that has it was deleted: leave out the seals from within that file"


def check_archive(
    connection: Connection,
    directory: Path,
    seals: Iterable[Seal] = (),
    *,
    report: Callable[[int], None] = lambda _: None,
) -> Damage | None:
    """The first thing that is wrong with the archive, or differs between it and the ledger.

    connection: autocommit, the app role. seals: of events that are in the archive, in any order,
    one at most of each position. report: told the number of events looked at, now and then.
    """
    kept = deque(sorted(seal for seal in seals if seal != OF_NOTHING))
    sealed = 0
    try:
        for stretch in deleted(connection, directory):
            for seal in kept:
                if stretch.after < seal.position < stretch.until:
                    return Damage(f"event {seal.position}", _DELETED)
        for count, seal in enumerate(_compared(connection, directory), start=1):
            if kept and kept[0].position <= seal.position:
                damage = difference(kept[0], seal, sealed)
                if damage is not None:
                    return damage
                sealed = kept.popleft().position
            if count % SLICE == 0:
                report(count)
    except (SegmentUnusable, ArchiveDamaged) as error:
        return Damage("the archive", str(error))
    except Damaged as damaged:
        return damaged.damage
    return None


def deleted(connection: Connection, directory: Path) -> Sequence[Extended]:
    """The stretches of which the file was deleted on purpose. Raises ArchiveDamaged."""
    return [
        stretch
        for stretch in stretches(connection)
        if is_deleted(directory / file_name(stretch.after, stretch.until))
    ]


def _compared(connection: Connection, directory: Path) -> Iterator[Seal]:
    """The seal after each event of the archive, which is compared with the ledger's; of a file that
    was deleted the last one, as its manifest and the ledger have it.
    """
    seal = OF_NOTHING
    for stretch in stretches(connection):
        path = directory / file_name(stretch.after, stretch.until)
        before, found = seal, 0
        if is_deleted(path):
            seal = Seal(stretch.until, bytes.fromhex(stretch.seal))
            require_manifest(path, _manifest(stretch, before))
            yield seal
            continue
        events = _same(
            read_segment(path, digest=stretch.file_digest),
            stored_events(connection, stretch.after, stretch.until),
        )
        for event in events:
            seal, found = sealed_with(seal, event), found + 1
            yield seal
        if (str(seal), found) != (f"{stretch.until}:{stretch.seal}", stretch.events):
            raise SegmentUnusable(f"{path} has other events than the ledger tells of")
        require_manifest(path, _manifest(stretch, before))


def _manifest(stretch: Extended, before: Seal) -> Manifest:
    seal = f"{stretch.until}:{stretch.seal}"
    return Manifest(
        stretch.after, stretch.until, stretch.events, str(before), seal, stretch.file_digest
    )


def _same(
    archived: Iterator[ArchivedEvent], stored: Iterator[ArchivedEvent]
) -> Iterator[ArchivedEvent]:
    there = next(stored, None)
    for event in archived:
        if there is not None and there.position <= event.position:
            if there != event:
                raise Damaged(f"event {there.position}", _OTHER)
            there = next(stored, None)
        elif event.topic not in LEAVING:
            raise Damaged(f"event {event.position}", "the archive has it, and the ledger has not")
        yield event
    if there is not None:
        raise Damaged(f"event {there.position}", _OTHER)

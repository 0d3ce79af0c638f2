"""Files of the archive's directory that are not on record.

A run that was cut off leaves one, and so do those from before a backup was restored. The next run
may end elsewhere, so it would not replace them, and whoever reads all files would find events
twice, or such that the ledger never had.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

from psycopg import Connection

from domain.archive.extended import Extended
from projections.archive.segment import (
    SegmentUnusable,
    file_name,
    manifest_of,
    read_segment,
    stored_events,
)

_SEGMENT: Final = re.compile(r"events-([0-9]{15,19})-([0-9]{15,19})\.ndjson\.gz", re.ASCII)
_UNFINISHED: Final = re.compile(
    r"\.events-[0-9]{15,19}-[0-9]{15,19}\.(?:ndjson\.gz|json)\.[0-9a-f]{32}", re.ASCII
)


def clear_leftovers(connection: Connection, directory: Path, known: Sequence[Extended]) -> None:
    """Delete the segments that are not on record, if the ledger still has all that they hold.

    connection: autocommit, the app role; nobody else extends the archive. known: all stretches.
    Raises SegmentUnusable, before anything is deleted, where one holds something else: it may be
    all that is left of that. Raises Damaged, OSError, too.
    """
    on_record = {file_name(stretch.after, stretch.until) for stretch in known}
    names = sorted(path.name for path in directory.iterdir())
    left = [
        (directory / name, int(found[1]) - 1, int(found[2]))
        for name in names
        if (found := _SEGMENT.fullmatch(name)) and name not in on_record
    ]
    for path, after, until in left:
        if not _is_in_ledger(connection, path, after, until):
            raise SegmentUnusable(
                f"{path} is not on record, and has events that this ledger has not: it is from "
                "before a backup was restored, or of another ledger; move it elsewhere, or name "
                "the directory of this ledger"
            )
    for path, *_ in left:
        manifest_of(path).unlink(missing_ok=True)
        path.unlink()
    for name in filter(_UNFINISHED.fullmatch, names):
        (directory / name).unlink(missing_ok=True)


def _is_in_ledger(connection: Connection, path: Path, after: int, until: int) -> bool:
    try:
        held = read_segment(path)
        return all(
            event == there
            for event, there in zip_longest(held, stored_events(connection, after, until))
        )
    except SegmentUnusable:
        return False

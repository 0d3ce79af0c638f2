"""`scim-ledger archive`: old uses and refusals leave the ledger, into files."""

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from api.cli.console import AsJson, DataDir, ask_ledger, caught_up, operator, show
from api.deployment import owner_conninfo
from api.settings import Settings, load
from domain.archive.extended import Stretch
from domain.errors import InvalidValue
from domain.eventstore.archive.stretches import Span, horizon
from domain.files.whole_file import is_place
from domain.postgres.connection import open_connection
from projections.archive.extending import Extending, Extent, planned
from projections.described import rfc3339
from projections.follow.low_priority import give_way

DAYS_MIN: Final = 90
"""What is younger stays: pages tell of it, and warnings and rotations go by it."""
DAYS_MAX: Final = 36_500
NEXT: Final = "nothing was changed; repeat it with --remove"

Directory = Annotated[Path, Parameter(help="Where the files of the archive are, all of them.")]
Days = Annotated[int, Parameter(help=f"How old what leaves is at least, {DAYS_MIN} or more.")]
Remove = Annotated[bool, Parameter(help="Do it; without this, say what would leave.")]


def archive(
    directory: Directory,
    *,
    older_than_days: Days,
    remove: Remove = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write the oldest events to files, then take those of their uses and refusals out of the
    ledger that nothing of the present rests on.

    The service may run. Takes the owner role (SCIM_LEDGER_OWNER_DATABASE_URL).
    """
    given = load(data_dir=data_dir)
    if not directory.is_dir() or not is_place(directory):
        raise InvalidValue("DIRECTORY", "must be a directory in which files can be made")
    if not DAYS_MIN <= older_than_days <= DAYS_MAX:
        raise InvalidValue("--older-than-days", f"must be {DAYS_MIN} to {DAYS_MAX}")
    with caught_up(data_dir) as settings, open_connection(str(settings.database_url)) as app:
        give_way(app)
        before = horizon(app, timedelta(days=older_than_days))
        if before is None:
            done = Extent(0, 0)
        elif remove:
            with open_connection(owner_conninfo(given)) as owner:
                give_way(owner)
                extending = Extending(app, owner, directory, partial(_record, settings))
                done = extending.run(before, report=_silent if as_json else _told)
        else:
            done = planned(app, before)
    show(
        {
            "before": None if before is None else rfc3339(before),
            "events": done.events,
            "removed": done.removed,
            "is_done": remove,
            **({} if remove else {"next": NEXT}),
        },
        as_json=as_json,
    )


def _record(settings: Settings, stretch: Stretch) -> None:
    ask_ledger(settings, lambda ledger: ledger.extend_archive(stretch, by=operator()))


def _told(span: Span) -> None:
    print(f"archive: events up to {span.until:,}", file=sys.stderr, flush=True)


def _silent(_: Span) -> None: ...

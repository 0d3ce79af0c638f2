"""`scim-ledger verify` and `scim-ledger seal`: whether the ledger is what it was."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from psycopg import Connection

from api.cli.console import LINE_EVERY_S, AsJson, DataDir, connection, show
from domain.errors import InvalidValue
from domain.eventstore.archive.stretches import ArchiveDamaged
from projections.archive.check import check_archive, deleted
from projections.follow.low_priority import give_way
from projections.kept_rows import Damage
from projections.ledger_check import check_ledger
from projections.ledger_seal import (
    OF_NOTHING,
    Seal,
    archived,
    check_seals,
    read_seal,
    seal_ledger,
)

EMPTY: Final = 3

Archive = Annotated[
    Path | None, Parameter(help="Directory of the archive: its files are compared, too.")
]

ExpectEvents = Annotated[
    bool, Parameter(help=f"An empty ledger is a failure, too: exit code {EMPTY}.")
]
Seals = Annotated[
    Path | None, Parameter(help="A file of seals, a line each: the events must still be those.")
]


def verify(
    *,
    expect_events: ExpectEvents = False,
    seals: Seals = None,
    archive: Archive = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Prove that states, stream heads, secrets and positions are what the events lead to.

    Exit code 1 when not.
    """
    kept = () if seals is None else _read(seals)
    if archive is not None and not archive.is_dir():
        raise InvalidValue("--archive", "must be a directory")
    with connection(data_dir) as opened, _counted("verify", as_json=as_json) as report:
        give_way(opened)
        rewritten = _rewritten(opened, kept, archive, report)
        verified = check_ledger(opened, report=report)
        files = () if archive is None or rewritten else deleted(opened, archive)
    damage = rewritten or verified.damage
    told = {
        "events": verified.events,
        "streams": verified.streams,
        "damage": None if damage is None else str(damage),
    }
    if verified.archived:
        told["archived"] = verified.archived
    if files:
        told["deleted_files"] = len(files)
    show(told, as_json=as_json)
    if verified.events == 0 and verified.damage is None:
        print("scim-ledger: this is an empty ledger: nothing was proven", file=sys.stderr)
    if damage is None and verified.events == 0 and expect_events:
        return EMPTY
    return 0 if damage is None else 1


def _rewritten(
    opened: Connection,
    seals: Sequence[Seal],
    archive: Path | None,
    report: Callable[[int], None],
) -> Damage | None:
    """What is not as it was sealed. A seal of events that have left the ledger needs the archive:
    whoever owns the database could say of any that they have left it. Raises InvalidValue.
    """
    try:
        reaches = archived(opened).position
    except ArchiveDamaged as error:
        return Damage("the archive", str(error))
    of_archive = [each for each in seals if OF_NOTHING.position < each.position < reaches]
    if archive is not None:
        damage = check_archive(opened, archive, of_archive, report=report)
        if damage is not None:
            return damage
    elif of_archive:
        raise InvalidValue(
            "--archive",
            f"{len(of_archive)} of the seals are of events in the archive: name its directory, or "
            f"give those from event {reaches} on alone",
        )
    return check_seals(opened, seals, report=report)


def seal(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Print what all events up to the newest come to: a line to keep elsewhere, for verify."""
    with connection(data_dir) as opened, _counted("seal", as_json=as_json) as report:
        give_way(opened)
        made = seal_ledger(opened, report=report)
    if as_json:
        show({"position": made.position, "seal": str(made)}, as_json=True)
    else:
        print(made)


def _read(path: Path) -> Sequence[Seal]:
    """Raises InvalidValue."""
    found: dict[int, Seal] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidValue("--seals", f"{path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            read = read_seal(line.decode("ascii"))
        except ValueError:
            raise InvalidValue(
                "--seals", f"line {number} of {path} is not as scim-ledger seal prints it"
            ) from None
        if found.setdefault(read.position, read) != read:
            raise InvalidValue("--seals", f"two lines of {path} differ about event {read.position}")
    if not found:
        raise InvalidValue("--seals", f"{path} is empty")
    return [*found.values()]


@contextmanager
def _counted(name: str, *, as_json: bool) -> Iterator[Callable[[int], None]]:
    told_at = time.monotonic()

    def line(events: int) -> None:
        nonlocal told_at
        if not as_json and time.monotonic() - told_at >= LINE_EVERY_S:
            told_at = time.monotonic()
            print(f"{name}: {events:,} events", file=sys.stderr)

    yield line

"""Segments: files that hold all events of a stretch of the ledger, a line of JSON each.

A file is compressed with gzip. Its line has the columns of the event, and the stored state as it
is, byte for byte: so the seal of the ledger follows from the files, too. Beside each file lies a
manifest that says what it holds; the same stands in the ledger.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeAlias
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import args_row

from domain.errors import LedgerError
from domain.eventstore.event_registry import REGISTRY
from domain.files.whole_file import whole_file
from domain.postgres.sql_file import statements
from projections.kept_rows import SLICE, Damaged, snapshot
from projections.ledger_seal import Seal, sealed_up_to

_SQL: Final = statements("projections.archive", "segment.sql")
_COMPRESSION: Final = 6
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class SegmentUnusable(LedgerError):
    """A file of the archive is missing, or is not what was written; the text names it."""


class ArchivedEvent(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A line of a segment: an event as the ledger had it.

    Fields as the columns of `ledger.events`; position is the notification id, state the stored
    bytes.
    """

    position: _Number
    originator_id: UUID
    originator_version: _Number
    topic: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    command_id: UUID
    state: msgspec.Raw


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a segment holds.

    after, until: the positions that it lies between. events: how many. seal_before, seal: of all
    events up to either. sha256: of the file.
    """

    after: int
    until: int
    events: int
    seal_before: str
    seal: str
    sha256: str


def file_name(after: int, until: int) -> str:
    """Of the segment between two positions; names are in the order of the ledger."""
    return f"events-{after + 1:015d}-{until:015d}.ndjson.gz"


def write_segment(
    connection: Connection, directory: Path, *, start: Seal, until: int
) -> tuple[Manifest, Seal]:
    """Write the events behind a seal and up to a position into a file, and read it back.

    connection: autocommit, the app role. start: of all events before. Returns what the file holds,
    and the seal of all events up to its end. Raises Damaged, UnreadableEvent, and
    SegmentUnusable where a file cannot be written or what was read back is another.
    """
    path = directory / file_name(start.position, until)
    count = 0
    with _written(path) as file:
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as compressed:
            for line in _lines(connection, start.position, until):
                compressed.write(line)
                count += 1
        file.flush()
        digest = _digest(Path(file.name))
    seal = start
    for event in read_segment(path, digest=digest):
        seal = sealed_with(seal, event)
    if seal != sealed_up_to(connection, start, until):
        raise SegmentUnusable(f"{path} does not read as the ledger does")
    manifest = Manifest(start.position, until, count, str(start), str(seal), digest)
    with _written(manifest_of(path)) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest, seal


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A `whole_file`. Raises SegmentUnusable: a write that fails does not say of which file."""
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        why = error.strerror or "the disk does not take it"
        raise SegmentUnusable(f"{path} cannot be written: {why}") from error


def sealed_with(seal: Seal, event: ArchivedEvent) -> Seal:
    """The seal with the next event. The bytes are those that `ledger_seal.sql` names."""
    topic, state = event.topic.encode(), bytes(event.state)
    at = (event.at - _EPOCH) // _MICROSECOND
    parts = (
        event.position.to_bytes(8),
        event.originator_id.bytes,
        event.originator_version.to_bytes(8),
        at.to_bytes(8, signed=True),
        event.command_id.bytes,
        len(topic).to_bytes(4),
        topic,
        state,
    )
    return Seal(event.position, sha256(seal.hash + sha256(b"".join(parts)).digest()).digest())


def _lines(connection: Connection, after: int, until: int) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for event in stored_events(connection, after, until):
        state = bytes(event.state)
        REGISTRY.decode(event.topic, state)
        if b"\n" in state or b"\r" in state:
            raise Damaged(f"event {event.position}", "its state has more than one line")
        yield encode(event) + b"\n"


def stored_events(connection: Connection, after: int, until: int) -> Iterator[ArchivedEvent]:
    """What the ledger has of a stretch, in order. Raises Damaged where two have one position."""
    is_more = True
    while is_more:
        with snapshot(connection), connection.cursor(row_factory=args_row(_stored)) as cursor:
            rows = cursor.execute(_SQL["slice"], [after, until, SLICE], binary=True).fetchall()
        for row in rows:
            if row.position <= after:
                raise Damaged(f"event {row.position}", "there is another one at its position")
            after = row.position
            yield row
        is_more = len(rows) >= SLICE


def _stored(  # noqa: PLR0917 - the columns of a row
    position: int,
    originator_id: UUID,
    originator_version: int,
    topic: str,
    at: datetime,
    command_id: UUID,
    state: bytes,
) -> ArchivedEvent:
    raw = msgspec.Raw(state)
    return ArchivedEvent(position, originator_id, originator_version, topic, at, command_id, raw)


def read_segment(path: Path, *, digest: str | None = None) -> Iterator[ArchivedEvent]:
    """The events of a file, which ends with an error if it is another than that of this digest.

    digest: SHA-256 of the file, 64 hex digits; None where none is known. Raises SegmentUnusable.
    """
    decode = msgspec.json.Decoder(ArchivedEvent).decode
    try:
        _require_file(path)
        if digest is not None and _digest(path) != digest:
            raise SegmentUnusable(f"{path} is not the file that was written")
        with gzip.open(path) as lines:
            for line in lines:
                yield decode(line)
    except OSError as error:
        raise SegmentUnusable(f"{path}: {error.strerror or 'it cannot be read'}") from error
    except (EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SegmentUnusable(f"{path} is not a segment of an archive") from error


def require_manifest(path: Path, manifest: Manifest) -> None:
    """Raise SegmentUnusable unless this one lies beside the file."""
    beside = manifest_of(path)
    try:
        _require_file(beside)
        found = msgspec.json.decode(beside.read_bytes(), type=Manifest)
    except OSError as error:
        raise SegmentUnusable(f"{beside}: {error.strerror or 'it cannot be read'}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SegmentUnusable(f"{beside} is not a manifest of an archive") from error
    if found != manifest:
        raise SegmentUnusable(f"{beside} says otherwise than the ledger")


def _require_file(path: Path) -> None:
    """Nobody waits for what a named pipe has to say. Raises SegmentUnusable, OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise SegmentUnusable(f"{path} is not a file")


def manifest_of(path: Path) -> Path:
    """The name of the manifest beside a segment."""
    return path.with_suffix("").with_suffix(".json")


def deletion_of(path: Path) -> Path:
    """The name of what says that a segment was deleted on purpose."""
    return path.with_suffix("").with_suffix(".deleted")


def is_deleted(path: Path) -> bool:
    """Whether a segment is not there, and somebody says that this is meant."""
    return not os.path.lexists(path) and deletion_of(path).is_file()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

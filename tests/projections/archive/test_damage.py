"""What somebody does by hand to the archive, or to what the ledger has of it, is found."""

import gzip
import json
import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from domain.archive.extended import ARCHIVE_ID
from domain.errors import LedgerError
from domain.eventstore.archive import stretches as stretches_module
from projections import ledger_seal
from projections.archive import forgetting
from projections.archive.check import check_archive
from projections.kept_rows import Damage
from projections.ledger_check import check_ledger
from projections.ledger_seal import check_seals, seal_ledger
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, archive, facts
from tests.projections.history import given

BEFORE: Final = T0 + 400 * HOUR
HISTORY: Final = facts([(0, "used", HOUR, "192.0.2.1", 2), (1, "refused", HOUR, None, 1)] * 12)
OF_ARCHIVE: Final = f"originator_id = '{ARCHIVE_ID}'"
LAST: Final = f"{OF_ARCHIVE} AND originator_version = 2"
PUT_IN: Final = (
    "INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, at, "
    "command_id, state) SELECT"
)
REST: Final = "topic, at, command_id, state FROM ledger.events"
OF_USE: Final = (
    "WHERE notification_id = (SELECT min(notification_id) FROM ledger.events "
    "WHERE topic LIKE 'scim_token.used%')"
)
CHANGED: Final = "UPDATE ledger.events SET state ="
OF_REFUSAL: Final = "WHERE notification_id = 4"

Hand = Callable[[Path, Path], object]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stretches."""
    monkeypatch.setattr(stretches_module, "EVENTS", 14)
    monkeypatch.setattr(forgetting, "_READ", 4)


@pytest.fixture
def archived(database: Database, tmp_path: Path) -> Database:
    """A ledger of which two stretches are in the archive."""
    given(database, *HISTORY)
    archive(database, tmp_path, BEFORE)
    return database


def by_hand(database: Database, statement: str) -> None:
    with psycopg.connect(database.owner) as owner:
        owner.execute("DROP INDEX ledger.events_notification_id")
        owner.execute("CREATE INDEX events_notification_id ON ledger.events (notification_id)")
        assert owner.execute(statement.encode()).rowcount == 1


def found(database: Database, directory: Path) -> tuple[str | None, str | None]:
    """What `verify` says without the archive, and what of the archive."""
    with psycopg.connect(database.app, autocommit=True) as app:
        ledger, files = check_ledger(app).damage, check_archive(app, directory)
    return None if ledger is None else str(ledger), None if files is None else str(files)


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def pipe(first: Path, _: Path) -> None:
    first.unlink()
    os.mkfifo(first)


def directory(first: Path, _: Path) -> None:
    first.unlink()
    first.mkdir()


def to_itself(first: Path, _: Path) -> None:
    first.unlink()
    first.symlink_to(first)


HANDS: Final[dict[str, tuple[Hand, str]]] = {
    "changed": (lambda a, _: a.write_bytes(a.read_bytes() + b"\n"), "is not the file that was wri"),
    "cut off": (lambda a, _: os.truncate(a, 100), "is not the file that was written"),
    "empty": (lambda a, _: os.truncate(a, 0), "is not the file that was written"),
    "missing": (lambda a, _: a.unlink(), ": No such file or directory"),
    "of another name": (lambda a, b: a.rename(f"{b}.2"), ": No such file or directory"),
    "swapped": (swap, "is not the file that was written"),
    "a pipe": (pipe, "is not a file"),
    "a directory": (directory, "is not a file"),
    "a link to itself": (to_itself, ": Too many levels of symbolic links"),
}
ON_MANIFEST: Final[dict[str, Hand]] = {
    "changed": lambda a, _: a.write_text("{}"),
    "cut off": lambda a, _: os.truncate(a, 20),
}
OF_MANIFEST: Final = {
    "changed": "is not a manifest of an archive",
    "cut off": "is not a manifest of an archive",
    "empty": "is not a manifest of an archive",
    "swapped": "says otherwise than the ledger",
}


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("suffix", [".ndjson.gz", ".json"])
def test_files(archived: Database, tmp_path: Path, suffix: str, hand: str) -> None:
    first, second = sorted(tmp_path.glob(f"*{suffix}"))
    do, said = HANDS[hand]
    if suffix == ".json":
        said = OF_MANIFEST.get(hand, said)
        do = ON_MANIFEST.get(hand, do)
    do(first, second)
    of_ledger, of_files = found(archived, tmp_path)
    assert of_ledger is None
    assert of_files is not None
    assert of_files.startswith(f"the archive: {first}")
    assert said in of_files


def told_anew(**changed: str) -> str:
    """A statement that changes fields of the last record."""
    state = "convert_from(state, 'UTF8')::jsonb"
    for name, value in changed.items():
        state = f"jsonb_set({state}, '{{{name}}}', '{value}')"
    return f"UPDATE ledger.events SET state = convert_to(({state})::text, 'UTF8') WHERE {LAST}"


WAS_CHANGED: Final = r"the archive: what the ledger tells of it behind event \d+ was changed"
LEDGER: Final[dict[str, tuple[str, str | None, str | None]]] = {
    "a kept use is changed": (
        f"{CHANGED} replace(convert_from(state, 'UTF8'), 'scim', 'nginx')::bytea {OF_USE}",
        None,
        r"event \d+: it is not what the archive says",
    ),
    "a kept use is moved": (
        f"UPDATE ledger.events SET at = at + interval '1 microsecond' {OF_USE}",
        None,
        r"event \d+: it is not what the archive says",
    ),
    "a kept use is deleted": (
        f"DELETE FROM ledger.events {OF_USE}",
        r"the archive: \d+ events have left the ledger, and it tells of \d+",
        None,
    ),
    "a creation is deleted": (
        "DELETE FROM ledger.events WHERE notification_id = 2",
        r"event \d+ .*: version 1 is missing before it",
        r"event 2: the archive has it, and the ledger has not",
    ),
    "an event is put in": (
        f"{PUT_IN} notification_id + 2, originator_id, originator_version + 1, {REST} {OF_USE}",
        r"event \d+: ledger time went back",
        r"event \d+: it is not what the archive says",
    ),
    "two have one position": (
        f"{PUT_IN} notification_id, originator_id, originator_version + 1, {REST} {OF_USE}",
        r"event \d+: there is another one at its position",
        r"event \d+: there is another one at its position",
    ),
    "fewer are told to have left": (
        told_anew(removed="1"),
        r"the archive: \d+ events have left the ledger, and it tells of \d+",
        None,
    ),
    "more are told to have left": (
        told_anew(removed="1000").replace("originator_version = 2", "originator_version = 1"),
        r"the archive: \d+ events have left the ledger, and it tells of \d+",
        None,
    ),
    "fewer uses are told to have left": (
        told_anew(uses="0"),
        r"the archive: \d+ uses have left the ledger, and it tells of \d+",
        None,
    ),
    "another seal is told": (
        told_anew(seal=f'"{"a" * 64}"'),
        None,
        "has other events than the ledger tells of",
    ),
    "no seal is told": (told_anew(seal='"none"'), WAS_CHANGED, WAS_CHANGED),
    "another count is told": (
        told_anew(events="1"),
        None,
        "has other events than the ledger tells of",
    ),
    "another file is told": (
        told_anew(file_digest=f'"{"a" * 64}"'),
        None,
        "is not the file that was written",
    ),
    "another beginning is told": (told_anew(after="1"), WAS_CHANGED, WAS_CHANGED),
    "another end is told": (told_anew(until="1"), WAS_CHANGED, WAS_CHANGED),
    "nothing is told": (
        f"UPDATE ledger.events SET state = '{{}}' WHERE {LAST}",
        WAS_CHANGED,
        WAS_CHANGED,
    ),
    "no JSON is told": (
        f"UPDATE ledger.events SET state = '\\xff00' WHERE {LAST}",
        WAS_CHANGED,
        WAS_CHANGED,
    ),
    "something else is told": (
        f"UPDATE ledger.events SET topic = 'scim_token.revoked.v1' WHERE {LAST}",
        WAS_CHANGED,
        WAS_CHANGED,
    ),
    "the last record is deleted": (
        f"DELETE FROM ledger.events WHERE {LAST}",
        "the head of .*: its version is not what the events lead to",
        None,
    ),
    "the first record is deleted": (
        f"DELETE FROM ledger.events WHERE {OF_ARCHIVE} AND originator_version = 1",
        WAS_CHANGED,
        WAS_CHANGED,
    ),
}


@pytest.mark.parametrize("hand", LEDGER)
def test_ledger(archived: Database, tmp_path: Path, hand: str) -> None:
    statement, *expected = LEDGER[hand]
    by_hand(archived, statement)
    for said, pattern in zip(found(archived, tmp_path), expected, strict=True):
        assert (said is None) == (pattern is None), said
        assert pattern is None or re.search(pattern, str(said))


def test_no_gap_behind_the_archive_is_taken_for_one_of_it(
    database: Database, tmp_path: Path
) -> None:
    given(database, *HISTORY)
    archive(database, tmp_path, T0 + 12 * HOUR)
    newest = "(SELECT max(notification_id) FROM ledger.events WHERE topic = 'scim_token.used.v1')"
    by_hand(database, f"DELETE FROM ledger.events WHERE notification_id = {newest} - 4")
    of_ledger, of_files = found(database, tmp_path)
    assert re.search(r"version \d+ is missing before it", str(of_ledger))
    assert of_files is None


def line(**changed: Any) -> bytes:
    """A line of a segment, as somebody writes it who knows how they are."""
    event: dict[str, Any] = {
        "position": 20, "originator_id": str(ARCHIVE_ID), "originator_version": 1,
        "topic": "scim_token.used.v1", "at": "2021-08-10T11:00:00Z",
        "command_id": str(ARCHIVE_ID), "state": {}, **changed,
    }  # fmt: skip
    return gzip.compress(json.dumps(event).encode() + b"\n")


FORGED: Final[dict[str, bytes]] = {
    "nothing": b"",
    "no gzip": b"nothing of it",
    "gzip that ends": line()[:-12],
    "gzip that is damaged": line()[:14] + b"\xff" * 40,
    "no JSON": gzip.compress(b"\xff\n"),
    "no event": gzip.compress(b"{}\n"),
    "one event": line(),
    "no position": line(position=0),
    "a position behind all": line(position=1 << 80),
    "a version before all": line(originator_version=-1),
    "an instant of nowhere": line(at="2021-08-10T11:00:00"),
    "an instant before all": line(at="0001-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_a_file_that_the_ledger_was_made_to_tell_of(
    archived: Database, tmp_path: Path, content: bytes
) -> None:
    _, second = sorted(tmp_path.glob("*.gz"))
    second.write_bytes(content)
    by_hand(archived, told_anew(file_digest=f'"{sha256(content).hexdigest()}"'))
    _, of_files = found(archived, tmp_path)
    assert re.match(r"the archive: .*\.gz|event \d+: ", str(of_files)), of_files


def test_seals_find_what_was_told_anew(archived: Database) -> None:
    with psycopg.connect(archived.app, autocommit=True) as app:
        kept = seal_ledger(app)
        by_hand(archived, told_anew(seal=f'"{"a" * 64}"'))
        damage = check_seals(app, [kept])
    assert damage is not None
    assert "they are not those that were sealed" in str(damage)


def test_a_seal_of_just_what_is_archived_is_compared(archived: Database) -> None:
    """The ledger has it: no file is needed."""
    with psycopg.connect(archived.app, autocommit=True) as app:
        kept = ledger_seal.archived(app)
        assert check_seals(app, [kept]) is None
        damage = check_seals(app, [kept._replace(hash=bytes(32))])
    assert damage == Damage(f"events 1 to {kept.position}", "they are not those that were sealed")


def test_what_was_put_back_leaves_again(archived: Database, tmp_path: Path) -> None:
    before = found(archived, tmp_path)
    lines = gzip.decompress(min(tmp_path.glob("*.gz")).read_bytes()).splitlines()
    event = json.loads(lines[4])  # neither the first use nor the last
    with psycopg.connect(archived.owner, autocommit=True) as owner:
        count = "SELECT count(*) FROM ledger.events"
        there = owner.execute(count).fetchone()
        state = lines[4].partition(b'"state":')[2].removesuffix(b"}")
        *columns, _ = event.values()
        owner.execute(f"{PUT_IN} %s, %s, %s, %s, %s, %s, %s".encode(), [*columns, state])
        assert found(archived, tmp_path) == before == (None, None)
        assert archive(archived, tmp_path, BEFORE).removed == 1
        assert owner.execute(count).fetchone() == there


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            f"{PUT_IN} notification_id, originator_id, 99, {REST} {OF_REFUSAL}",
            "event 4: there is another one at",
        ),
        (
            f"UPDATE ledger.events SET topic = 'scim_token.used.v9' {OF_REFUSAL}",
            "no event is registered under the topic 'scim_token.used.v9'",
        ),
        (
            f"{CHANGED} '{{}}' {OF_REFUSAL}",
            "the stored state of a scim_token.refused.v1 is not what its version holds",
        ),
        (
            f"{CHANGED} convert_to(convert_from(state, 'UTF8') || chr(10), 'UTF8') {OF_REFUSAL}",
            "event 4: its state has more than one line",
        ),
    ],
)
def test_nothing_is_archived_of_a_ledger_that_is_damaged(
    database: Database, tmp_path: Path, change: str, said: str
) -> None:
    given(database, *HISTORY)
    by_hand(database, change)
    with pytest.raises(LedgerError, match=said):
        archive(database, tmp_path, BEFORE)
    assert [*tmp_path.iterdir()] == []

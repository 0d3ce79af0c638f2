"""The directory has each event once: what an earlier run left there is no part of the archive."""

import gzip
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg
import pytest

from domain.archive.extended import Stretch
from domain.eventstore.archive import stretches as stretches_module
from projections.archive.check import check_archive
from projections.archive.extending import Extending
from projections.archive.segment import SegmentUnusable
from tests.conftest import Database, catch_up, new_database
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, archive, facts
from tests.projections.history import given

HISTORY: Final = facts([(0, "used", HOUR, "192.0.2.1", 2)] * 20)
DAY: Final = T0 + 24 * HOUR


@pytest.fixture
def restored(server: str) -> Iterator[Database]:
    with new_database(server) as made:
        yield made


class Cut(Exception):
    """The command ends here."""


def cut(_: Stretch) -> None:
    raise Cut


def cut_off(database: Database, directory: Path, before: datetime) -> None:
    """A run that ends when its first file is written, and not on record."""
    with (
        psycopg.connect(database.app, autocommit=True) as app,
        psycopg.connect(database.owner, autocommit=True) as owner,
        pytest.raises(Cut),
    ):
        Extending(app, owner, directory, cut).run(before)


def positions(directory: Path) -> Sequence[int]:
    """As whoever reads all files finds them."""
    return [
        json.loads(line)["position"]
        for file in sorted(directory.glob("events-*.ndjson.gz"))
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]


@pytest.mark.parametrize("first", [5, 12, 19])
@pytest.mark.parametrize("later", [6, 13, 24])
def test_a_run_with_another_end_has_each_event_once(
    database: Database, tmp_path: Path, first: int, later: int
) -> None:
    given(database, *HISTORY)
    cut_off(database, tmp_path, T0 + first * HOUR)
    archive(database, tmp_path, T0 + later * HOUR)
    found = positions(tmp_path)
    assert found == [*range(1, len(found) + 1)]


def test_what_was_unfinished_goes_and_other_files_stay(database: Database, tmp_path: Path) -> None:
    given(database, *HISTORY)
    name = f"events-{1:015d}-{9:015d}"
    unfinished = [tmp_path / f".{name}.{kind}.{'a' * 32}" for kind in ("ndjson.gz", "json")]
    others = [tmp_path / "README", tmp_path / f"{name}.ndjson.gz.asc", tmp_path / f".{name}.json"]
    for path in (*unfinished, *others):
        path.write_text("")
    archive(database, tmp_path, T0 + 5 * HOUR)
    assert [path.exists() for path in (*unfinished, *others)] == [False] * 2 + [True] * 3
    assert len([*tmp_path.iterdir()]) == len(others) + 2


@pytest.mark.parametrize("again", [5, 9, 24])
def test_a_backup_from_before_is_archived_again(
    database: Database, restored: Database, tmp_path: Path, again: int
) -> None:
    """As a whole, and to the same directory, by whatever age."""
    for each in (database, restored):
        given(each, *HISTORY)
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches_module, "EVENTS", 4)
        archive(database, tmp_path, T0 + 9 * HOUR)
    archive(restored, tmp_path, T0 + again * HOUR)
    found = positions(tmp_path)
    assert found == [*range(1, len(found) + 1)]
    with psycopg.connect(restored.app, autocommit=True) as app:
        assert check_archive(app, tmp_path) is None


@pytest.mark.parametrize("again", [9, 12])
def test_what_this_ledger_has_not_is_never_replaced(
    database: Database, restored: Database, tmp_path: Path, again: int
) -> None:
    """Of the events that a restored ledger has lost, a file may be all that is left."""
    given(database, *HISTORY)
    given(restored, *HISTORY[:6], *facts([(0, "used", HOUR, "198.51.100.7", 1)] * 20)[6:])
    archive(database, tmp_path, T0 + 9 * HOUR)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SegmentUnusable, match="is not on record, and has events that this ledger"):
        archive(restored, tmp_path, T0 + again * HOUR)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    catch_up(restored)
    with psycopg.connect(restored.app, autocommit=True) as app:
        assert app.execute("SELECT count(*) FROM ledger.events").fetchone() == (len(HISTORY),)


UNREADABLE: Final = {
    "empty": b"",
    "no gzip": b"events",
    "no event": gzip.compress(b"{}\n"),
    "of nothing": gzip.compress(b""),
}


@pytest.mark.parametrize("held", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_never_replaced(
    database: Database, tmp_path: Path, held: bytes
) -> None:
    given(database, *HISTORY)
    path = tmp_path / f"events-{1:015d}-{7:015d}.ndjson.gz"
    path.write_bytes(held)
    with pytest.raises(SegmentUnusable, match="is not on record"):
        archive(database, tmp_path, DAY)
    assert path.read_bytes() == held

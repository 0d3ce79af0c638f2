"""Files of the archive that somebody deleted and said so: the others are compared as before."""

from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Final

import psycopg
import pytest

from domain.eventstore.archive import stretches as stretches_module
from domain.eventstore.archive.stretches import stretches
from projections.archive.check import check_archive, deleted
from projections.archive.segment import deletion_of, manifest_of
from projections.ledger_seal import OF_NOTHING, Seal, sealed_up_to
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, archive, facts
from tests.projections.history import given

USES: Final = 12
FILES: Final = 3
ANY_OF_THEM: Final = [*chain(*(combinations(range(FILES), count) for count in range(1, FILES + 1)))]


@pytest.fixture
def seals(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Seal]:
    """Of each event of an archive of three files."""
    monkeypatch.setattr(stretches_module, "EVENTS", 4)
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * USES))
    with psycopg.connect(database.app, autocommit=True) as app:
        found = [sealed_up_to(app, OF_NOTHING, position) for position in range(1, 13)]
    archive(database, tmp_path, T0 + 10 * HOUR + HOUR / 2)
    assert len(files(tmp_path)) == FILES
    return found


def files(directory: Path) -> Sequence[Path]:
    return sorted(directory.glob("*.ndjson.gz"))


def delete(path: Path) -> None:
    deletion_of(path).touch()
    path.unlink()


def damage(database: Database, directory: Path, *seals: Seal) -> str | None:
    with psycopg.connect(database.app, autocommit=True) as app:
        found = check_archive(app, directory, seals)
    return None if found is None else str(found)


@pytest.mark.parametrize("which", ANY_OF_THEM, ids=str)
def test_the_others_and_all_seals_but_those_within_are_compared(
    database: Database, tmp_path: Path, seals: Sequence[Seal], which: Sequence[int]
) -> None:
    there = files(tmp_path)
    for number in which:
        delete(there[number])
    with psycopg.connect(database.app, autocommit=True) as app:
        spans = [(each.after, each.until) for each in stretches(app)]
        assert [(each.after, each.until) for each in deleted(app, tmp_path)] == [
            spans[number] for number in which
        ]
    assert damage(database, tmp_path) is None
    gone = [spans[number] for number in which]
    for seal in seals[: spans[-1][1]]:
        said = damage(database, tmp_path, seal)
        is_within = any(after < seal.position < until for after, until in gone)
        assert (said is not None) == is_within, seal
        assert said is None or f"event {seal.position}: the file that has it was deleted" in said
        forged = Seal(seal.position, bytes(32))
        assert damage(database, tmp_path, forged) is not None
    for number in {*range(FILES)} - {*which}:
        there[number].write_bytes(b"")
        assert damage(database, tmp_path) is not None
        break


@pytest.mark.usefixtures("seals")
@pytest.mark.parametrize("suffix", [".json", ".deleted"])
def test_neither_without_its_manifest_nor_without_the_word(
    database: Database, tmp_path: Path, suffix: str
) -> None:
    (first, *_) = files(tmp_path)
    delete(first)
    assert damage(database, tmp_path) is None
    first.with_suffix("").with_suffix(suffix).unlink()
    assert "No such file or directory" in (damage(database, tmp_path) or "")


@pytest.mark.usefixtures("seals")
def test_a_manifest_that_was_changed_is_found(database: Database, tmp_path: Path) -> None:
    first, second, _ = files(tmp_path)
    delete(first)
    manifest_of(first).write_bytes(manifest_of(second).read_bytes())
    assert "says otherwise than the ledger" in (damage(database, tmp_path) or "")


def test_a_file_that_is_there_is_compared_whatever_is_said(
    database: Database, tmp_path: Path, seals: Sequence[Seal]
) -> None:
    (first, *_) = files(tmp_path)
    deletion_of(first).touch()
    assert damage(database, tmp_path, seals[1]) is None
    first.write_bytes(b"")
    assert "is not the file that was written" in (damage(database, tmp_path) or "")
    first.unlink()
    first.symlink_to("nowhere")
    assert "No such file or directory" in (damage(database, tmp_path) or "")


@pytest.mark.usefixtures("seals")
def test_the_archive_goes_on_behind_it(database: Database, tmp_path: Path) -> None:
    for each in files(tmp_path):
        delete(each)
    assert archive(database, tmp_path, T0 + 100 * HOUR).events > 0
    assert damage(database, tmp_path) is None

"""`scim-ledger archive` and `verify --archive`."""

import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.api.cli.test_commands import TEAM, USER, refused, run, told
from tests.conftest import Database
from tests.projections.archive.archiving import HOUR, facts
from tests.projections.history import given

YEARS: Final = ("--older-than-days", "400")
USES: Final = 30


@pytest.fixture
def old(database: Database) -> Database:
    """One token, used in each of thirty hours, years ago; and one that was made now."""
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * USES))
    told(database.app, "token", "create", "--team", TEAM, "--user", USER, "--name", "Okta")
    return database


def done(database: Database, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    ended = run(database.app, *arguments, "--json", SCIM_LEDGER_OWNER_DATABASE_URL=database.owner)
    assert ended.exit_code == exit_code, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def events(database: Database) -> int:
    with psycopg.connect(database.owner) as owner:
        (count,) = owner.execute("SELECT count(*) FROM ledger.events").fetchone() or (0,)
    return int(count)


def test_it_says_what_would_leave_and_then_that_leaves(old: Database, tmp_path: Path) -> None:
    kept = tmp_path / "seals"
    kept.write_text(run(old.app, "seal").stdout)
    before = events(old)
    planned = done(old, "archive", str(tmp_path), *YEARS)
    leaving = {"events": before - 1, "removed": USES - 2}  # all but the first and the last use
    assert planned == planned | leaving | {"is_done": False}
    assert events(old) == before
    assert [*tmp_path.iterdir()] == [kept]
    archived = done(old, "archive", str(tmp_path), *YEARS, "--remove")
    assert archived == {"before": planned["before"], **leaving, "is_done": True}
    assert events(old) == before - (USES - 2) + 1
    again = done(old, "archive", str(tmp_path), *YEARS, "--remove")
    assert again == archived | {"events": 0, "removed": 0}

    compared = ("verify", "--seals", str(kept), "--archive", str(tmp_path))
    whole = done(old, *compared)
    assert whole == whole | {"damage": None, "archived": USES - 2}
    with kept.open("a") as file:
        file.write(run(old.app, "seal").stdout)
    assert done(old, *compared) == whole
    assert done(old, "verify", "--seals", str(kept)) == whole


def test_the_files_are_read_by_anybody(old: Database, tmp_path: Path) -> None:
    done(old, "archive", str(tmp_path), *YEARS, "--remove")
    (file,) = tmp_path.glob("*.ndjson.gz")
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [line["position"] for line in lines] == [*range(1, USES + 3)]
    assert [line["state"]["count"] for line in lines[2:]] == [2] * USES
    (manifest,) = tmp_path.glob("*.json")
    told_of = json.loads(manifest.read_text())
    assert told_of["sha256"] == sha256(file.read_bytes()).hexdigest()
    assert {oct(path.stat().st_mode & 0o777) for path in (file, manifest)} == {"0o600"}
    with psycopg.connect(old.app) as app:
        seal = run(old.app, "seal").stdout
        assert told_of["seal_before"] == f"0:{'0' * 64}"
        (state,) = app.execute(
            "SELECT state FROM ledger.events WHERE topic = 'archive.extended.v1'"
        ).fetchone() or (b"",)
    assert seal.partition(":")[0] == str(events(old) + USES - 2)
    assert f"{USES + 2}:{json.loads(state)['seal']}" == told_of["seal"]


@pytest.mark.parametrize("days", ["89", "36501", "-400", "400d"])
def test_what_is_young_never_leaves(database: Database, tmp_path: Path, days: str) -> None:
    line = ("archive", str(tmp_path), "--older-than-days", days)
    assert "--older-than-days" in refused(database.app, *line, exit_code=2)


def test_it_takes_a_directory_and_the_owner(old: Database, tmp_path: Path) -> None:
    there, line = str(tmp_path), ("archive", *YEARS, "--remove")
    missing = refused(old.app, *line, str(tmp_path / "none"), exit_code=2)
    assert missing == "DIRECTORY: must be a directory in which files can be made"
    before = events(old)
    said = refused(old.app, *line, there)
    assert said.startswith("this role may not delete events; it takes the owner: set SCIM_LEDGER_")
    assert (events(old), [*tmp_path.iterdir()]) == (before, [])


def test_it_goes_on_in_its_own_directory(old: Database, tmp_path: Path) -> None:
    """One that was mistyped would split the archive."""
    other = tmp_path / "other"
    other.mkdir()
    done(old, "archive", str(tmp_path), *YEARS, "--remove")
    (file,) = tmp_path.glob("*.gz")
    line = ("archive", str(other), *YEARS, "--remove")
    assert refused(old.app, *line, SCIM_LEDGER_OWNER_DATABASE_URL=old.owner) == (
        f"{file.name}, the last file of the archive, is not in {other}: "
        "name the directory that has it, or put it there"
    )
    assert [*other.iterdir()] == []


def test_seals_of_what_has_left_take_the_archive(old: Database, tmp_path: Path) -> None:
    """Else whoever owns the database could say of any event that it has left."""
    kept = tmp_path / "seals"
    kept.write_text(f"7:{'a' * 64}\n")
    done(old, "archive", str(tmp_path), *YEARS, "--remove")
    line = ("verify", "--seals", str(kept))
    assert refused(old.app, *line, exit_code=2) == (
        "--archive: 1 of the seals are of events in the archive: name its directory, or give those "
        f"from event {USES + 2} on alone"
    )
    found = done(old, *line, "--archive", str(tmp_path), exit_code=1)
    assert found["damage"] == "events 1 to 7: they are not those that were sealed"

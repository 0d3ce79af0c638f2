"""`scim-ledger seal` and `verify --seals`."""

import json
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.api.cli.test_commands import TEAM, USER, refused, run, told
from tests.conftest import Database
from tests.projections.test_ledger_seal import rewrite

CREATE: Final = ("token", "create", "--team", TEAM, "--user", USER, "--name", "Okta")
EMPTY: Final = f"0:{'0' * 64}\n"


def sealed(database: Database) -> str:
    done = run(database.app, "seal")
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def verified(database: Database, kept: Path, exit_code: int) -> dict[str, Any]:
    done = run(database.app, "verify", "--seals", str(kept), "--json")
    assert done.exit_code == exit_code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_seals_are_kept_in_a_file_a_line_each(database: Database, tmp_path: Path) -> None:
    kept = tmp_path / "seals"
    with kept.open("a") as file:
        file.write(sealed(database))
        for _ in range(3):
            told(database.app, *CREATE)
            file.write(sealed(database))
    newest = kept.read_text().splitlines()[-1]
    assert told(database.app, "seal") == {"position": 3, "seal": newest}
    assert kept.read_text().startswith(EMPTY)
    told(database.app, *CREATE)
    whole = {"events": 4, "streams": 4, "damage": None}
    assert verified(database, kept, 0) == whole
    with psycopg.connect(database.owner, autocommit=True) as owner:
        second = "(SELECT originator_id FROM ledger.events WHERE notification_id = 2)"
        rewrite(owner, f"originator_id = {second}")
    assert told(database.app, "verify")["damage"] is None
    said = "events 2 to 2: they are not those that were sealed"
    assert verified(database, kept, 1) == whole | {"damage": said}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "{kept} is empty"),
        (EMPTY + "\n", "line 2 of {kept} is not as scim-ledger seal prints it"),
        (f"1:{'é' * 64}", "line 1 of {kept} is not as scim-ledger seal prints it"),
        (f"7:{'a' * 64}\n7:{'b' * 64}\n", "two lines of {kept} differ about event 7"),
    ],
)
def test_what_is_no_file_of_seals_is_refused_before_the_ledger_is_read(
    database: Database, tmp_path: Path, lines: str, said: str
) -> None:
    kept = tmp_path / "seals"
    kept.write_text(lines)
    line = ("verify", "--seals", str(kept))
    assert refused(database.app, *line, exit_code=2) == f"--seals: {said.format(kept=kept)}"
    for path in (tmp_path, tmp_path / "none"):
        why = "Is a directory" if path.exists() else "No such file or directory"
        said = refused(database.app, "verify", "--seals", str(path), exit_code=2)
        assert said == f"--seals: {path}: {why}"


def test_lines_of_another_system_and_the_same_twice_are_taken(
    database: Database, tmp_path: Path
) -> None:
    told(database.app, *CREATE)
    kept = tmp_path / "seals"
    kept.write_bytes((sealed(database) * 2 + EMPTY).replace("\n", "\r\n").encode())
    assert verified(database, kept, 0)["damage"] is None


def test_a_ledger_is_called_empty_where_it_is(database: Database, tmp_path: Path) -> None:
    """Not where the check has come no further than its first slice."""
    told(database.app, *CREATE)
    kept = tmp_path / "seals"
    kept.write_text(sealed(database))
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("UPDATE ledger.events SET state = '{}'")
        damaged = run(database.app, "verify")
        owner.execute("TRUNCATE ledger.events, ledger.stream_heads, ledger.aggregates")
        owner.execute("TRUNCATE ledger.secrets")
    assert (damaged.exit_code, damaged.stderr) == (1, "")
    assert "damage: event 1 (scim_token.created" in damaged.stdout
    emptied = run(database.app, "verify", "--seals", str(kept))
    assert emptied.exit_code == 1
    assert "damage: event 1: it is missing, and was sealed" in emptied.stdout
    assert emptied.stderr == "scim-ledger: this is an empty ledger: nothing was proven\n"


def test_a_ledger_that_has_lost_its_end_is_told(database: Database, tmp_path: Path) -> None:
    told(database.app, *CREATE)
    kept = tmp_path / "seals"
    kept.write_text(sealed(database).replace("1:", "2:", 1))
    assert verified(database, kept, 1)["damage"] == "event 2: it is missing, and was sealed"

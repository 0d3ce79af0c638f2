"""The owner's URL of another ledger: nothing is done there, and nothing is told of it as ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.postgres.destinations import TwoDatabases, require_one_database
from tests.api.cli.test_commands import refused, run
from tests.conftest import Database, catch_up, new_database

OWNER: Final = "SCIM_LEDGER_OWNER_DATABASE_URL"
SAID: Final = (
    f"DATABASE_URL and {OWNER} lead to two databases: let both name the ledger's, each with its "
    "role"
)
AS_OWNER: Final = {
    "migrate": ["migrate"],
    "backup": ["backup", "ledger.dump"],
    "restore": ["restore", "kept.dump"],
    "repair pepper": ["repair", "pepper", "--confirm", "--reason", "lost"],
    "repair ledger-time": ["repair", "ledger-time", "--confirm", "--reason", "ahead"],
    "repair states": ["repair", "states", "--confirm", "--reason", "told"],
    "keys retire": ["keys", "retire", "1", "--reason", "yearly"],
}
"""What is done by the owner's connection."""


@pytest.fixture
def other(server: str) -> Iterator[Database]:
    with new_database(server) as database:
        yield database


@pytest.mark.parametrize("command", AS_OWNER)
def test_nothing_is_done_in_the_ledger_of_another_service(
    database: Database, other: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("kept.dump").write_bytes(b"")
    catch_up(other)
    assert (
        refused(database.app, *AS_OWNER[command], SCIM_LEDGER_OWNER_DATABASE_URL=other.owner)
        == SAID
    )
    assert not Path("ledger.dump").exists()
    for each in (database, other):
        with psycopg.connect(each.owner) as connection:
            assert connection.execute("SELECT count(*) FROM ledger.repairs").fetchone() == (0,)


@pytest.mark.parametrize("command", AS_OWNER)
def test_what_is_wrong_with_the_owners_url_is_told_of_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept.dump").write_bytes(b"")
    nowhere = make_conninfo(database.owner, host="127.0.0.1", port=1)
    assert refused(database.app, *AS_OWNER[command], SCIM_LEDGER_OWNER_DATABASE_URL=nowhere) == (
        f"nothing listens at the host and port of {OWNER}: start the server, or correct them; "
        "then repeat it"
    )


def test_one_database_is_one_whatever_its_server_is_called(database: Database) -> None:
    require_one_database(database.app, database.owner)
    require_one_database(database.app, make_conninfo(database.owner, application_name="psql"))
    with pytest.raises(TwoDatabases):
        require_one_database(database.app, make_conninfo(database.owner, dbname="postgres"))


def test_a_role_that_is_not_let_in_yet_may_be_migrated_for(database: Database) -> None:
    """Its name is all that is needed; every other command needs its connection."""
    app = make_conninfo(database.app, host="127.0.0.1", port=1)
    assert run(app, "migrate", SCIM_LEDGER_OWNER_DATABASE_URL=database.owner).exit_code == 0
    assert refused(app, "backup", "x", SCIM_LEDGER_OWNER_DATABASE_URL=database.owner).startswith(
        "nothing listens"
    )


def test_the_doctor_tells_both(database: Database, other: Database) -> None:
    def found(owner: str) -> str:
        lines = run(
            database.app, "doctor", SCIM_LEDGER_OWNER_DATABASE_URL=owner
        ).stdout.splitlines()
        return next(line for line in lines if line.split()[1] == "owner")

    assert found(database.owner).startswith("ok")
    assert found(other.owner).startswith("fail")
    assert found(make_conninfo(other.owner, port=1)).startswith("warn")

"""A restore that was killed between what PostgreSQL's program does and what is ours."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.cli.backup import _program, _run
from tests.api.cli.test_commands import refused, told
from tests.conftest import Database, new_database
from tests.domain.scenario import created
from tests.projections.given_events import record


@pytest.fixture
def empty(server: str) -> Iterator[Database]:
    with new_database(server, template="template0") as made:
        yield made


def test_a_second_restore_says_what_finishes_the_first(
    database: Database, empty: Database, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup")
    record(database, created())
    made = told(database.owner, "backup", file)

    with psycopg.connect(empty.owner) as connection:
        program = _program("pg_restore", connection.info.server_version)
    _run(program, empty.owner, "--single-transaction", "--exit-on-error", file, remedy="")

    said = refused(empty.owner, "restore", file)
    assert "scim-ledger migrate finishes it" in said
    told(empty.owner, "migrate")
    checked = told(empty.owner, "verify")
    assert (checked["events"], checked["damage"]) == (made["events"], None)
    assert "restore to an empty one" in refused(empty.owner, "restore", file)


def test_a_restore_under_another_pepper_says_that_it_is_done(
    database: Database, empty: Database, tmp_path: Path
) -> None:
    """Nothing has to be repeated but the check, with the right key."""
    file = str(tmp_path / "backup")
    record(database, created())
    told(database.owner, "migrate")  # the pepper is written down
    made = told(database.owner, "backup", file)

    said = refused(empty.owner, "restore", file, SCIM_LEDGER_PEPPER="z" * 40)
    assert "its key of generation 1 is another" in said
    assert said.endswith("the backup itself is restored: then go on with scim-ledger verify")
    assert told(empty.owner, "verify")["events"] == made["events"]

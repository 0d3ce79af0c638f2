"""The new release's command is there before the ledger is migrated: it backs up what is there."""

from pathlib import Path
from typing import Final

import psycopg
import pytest

from domain.postgres.migrate import applied, available
from tests.api.cli.test_commands import refused, told
from tests.conftest import Database
from tests.domain.scenario import created
from tests.projections.given_events import record

LAST: Final = max(available())
MIGRATE: Final = "the database lacks migrations of this release: run scim-ledger migrate"


@pytest.fixture
def earlier(database: Database) -> Database:
    """Its last migration is still to come."""
    record(database, created())
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("DELETE FROM ledger.migrations WHERE number = %s", [LAST])
    return database


def test_a_backup_needs_no_migration_and_makes_none(earlier: Database, tmp_path: Path) -> None:
    assert told(earlier.owner, "backup", str(tmp_path / "backup"))["events"] == 1
    with psycopg.connect(earlier.owner) as connection:
        assert LAST not in applied(connection)
    assert MIGRATE in refused(earlier.owner, "verify")


def test_where_there_is_no_ledger_there_is_nothing_to_back_up(
    empty_database: str, tmp_path: Path
) -> None:
    assert MIGRATE in refused(empty_database, "backup", str(tmp_path / "backup"))

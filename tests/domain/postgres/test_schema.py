"""What the migrations lead to, in one file, and the rules of the migrations' README."""

import re
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.postgres.migrate import available, migrate
from tests.domain.postgres import schema
from tests.domain.postgres.test_session import set_to, what_a_role_can_have

RELEASED: Final = Path(__file__).with_name("migrations.sha256")
ENDS_A_TRANSACTION: Final = re.compile(
    r"^\s*(?:BEGIN|START TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT)\b[^;]*;",
    re.MULTILINE | re.IGNORECASE,
)
CONTRACTS: Final = re.compile(
    r"\bDROP\s+(?:TABLE|COLUMN|FUNCTION|SCHEMA)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b"
    r"|\bALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b",
    re.IGNORECASE,
)
SINCE: Final = re.compile(r"^-- contract: \S", re.MULTILINE)


def contents() -> dict[str, bytes]:
    directory = files("domain.eventstore").joinpath("migrations")
    return {
        path.name: path.read_bytes() for path in directory.iterdir() if path.name.endswith(".sql")
    }


def statements(migration: str) -> str:
    """Without comments and the bodies of functions."""
    return re.sub(r"(\$\w*\$).*?\1|--[^\n]*", "", migration, flags=re.DOTALL)


def test_the_schema_file_is_what_the_migrations_lead_to(empty_database: str) -> None:
    migrate(empty_database, app_role=None)
    assert schema.schema(empty_database) == schema.FILE.read_text(), (
        "the schema is another: python -m tests.domain.postgres.schema"
    )


def test_the_schema_is_the_same_whatever_the_database_says_of_its_sessions(
    empty_database: str,
) -> None:
    """Every setting at once: with the first of its values, then with the second, and so on."""
    settings = what_a_role_can_have(empty_database)
    assert "plpgsql.extra_errors" in settings
    name = sql.Identifier(str(conninfo_to_dict(empty_database)["dbname"]))
    database = sql.SQL("ALTER DATABASE {} ").format(name)
    beside = make_conninfo(empty_database, dbname="postgres")
    for turn in range(max(map(len, settings.values()))):
        told = {setting: some[turn] for setting, some in settings.items() if turn < len(some)}
        with psycopg.connect(beside, autocommit=True) as admin:
            for setting, value in told.items():
                admin.execute(database + set_to(setting, value))
        migrate(empty_database, app_role=None)
        with psycopg.connect(beside, autocommit=True) as admin:
            admin.execute(database + sql.SQL("RESET ALL"))
        assert schema.schema(empty_database) == schema.FILE.read_text(), told
        with psycopg.connect(empty_database, autocommit=True) as admin:
            admin.execute("DROP SCHEMA ledger, views CASCADE")


def test_the_schema_file_is_complete(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(schema.FILE.read_text().encode())
    assert schema.schema(empty_database) == schema.FILE.read_text()


def test_no_migration_has_changed_since_it_was_released() -> None:
    released = {
        name: digest
        for digest, name in (line.split() for line in RELEASED.read_text().splitlines())
    }
    found = {name: sha256(content).hexdigest() for name, content in contents().items()}
    assert found == released, (
        f"what a database has is never changed or taken away; a new one is added to {RELEASED}"
    )


@pytest.mark.parametrize("number", sorted(available()))
def test_a_migration_leaves_the_transaction_to_whoever_applies_it(number: int) -> None:
    """Or what came before would stay where one that follows fails."""
    assert ENDS_A_TRANSACTION.search(statements(available()[number])) is None


@pytest.mark.parametrize("number", sorted(available()))
def test_what_takes_something_away_says_why_nobody_needs_it(number: int) -> None:
    migration = available()[number]
    assert CONTRACTS.search(statements(migration)) is None or SINCE.search(migration)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE ledger.stream_heads DROP COLUMN uses;",
        "ALTER TABLE ledger.stream_heads RENAME TO stream_heads;",
        "ALTER TABLE ledger.stream_heads ALTER uses TYPE int;",
        "ALTER TABLE ledger.stream_heads ALTER COLUMN uses SET NOT NULL;",
        "DROP FUNCTION ledger.lock_appends();",
    ],
)
def test_planted_what_takes_away_is_recognised(statement: str) -> None:
    assert CONTRACTS.search(statements(statement))


@pytest.mark.parametrize("statement", ["COMMIT;", "begin;", "CREATE TABLE x ();\n  ROLLBACK WORK;"])
def test_planted_what_ends_a_transaction_is_recognised(statement: str) -> None:
    assert ENDS_A_TRANSACTION.search(statements(statement))

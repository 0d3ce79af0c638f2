"""What the runner knows to be stored is not sent again; and it never knows what is not stored."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from projections.follow.positions import ensure_live
from projections.follow.stored_keys import StoredKeys
from projections.runner import Runner
from projections.token_sources.view import PROJECTION, SourceRow
from tests.conftest import Database
from tests.domain.scenario import T0, T1, created, used
from tests.projections.given_events import position, record, select

ROWS = f"SELECT key FROM {PROJECTION.table(1)}"


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        ensure_live(connection, PROJECTION)
        yield connection


def by_owner(database: Database, statement: str) -> None:
    with psycopg.connect(database.owner) as owner:
        owner.execute(statement.encode())


def fail_at_commit(database: Database) -> None:
    """Let the database fail at the end of a transaction that moves a position."""
    by_owner(
        database,
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'lock_not_available'; END $$;"
        "CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON ledger.projection_positions "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.fail()",
    )


def work_again(database: Database) -> None:
    by_owner(database, "DROP TRIGGER fail ON ledger.projection_positions")


def test_a_view_without_its_table_is_noticed(database: Database, connection: Connection) -> None:
    record(database, created(T0), used(T1), used(T1), used(T1))
    runner = Runner(database.app, [PROJECTION], batch=2)
    runner.step(connection)
    by_owner(database, f"DROP TABLE {PROJECTION.table(1)}")
    runner.step(connection)
    assert position(database, PROJECTION.name).state == "stopped"


def test_a_new_key_is_stored_by_the_same_runner(database: Database, connection: Connection) -> None:
    runner = Runner(database.app, [PROJECTION])
    for tokens in (1, 2):
        record(database, created(T1), used(T1))
        runner.catch_up(connection)
        assert len(select(database, ROWS)) == tokens


def test_what_was_rolled_back_is_sent_again(database: Database, connection: Connection) -> None:
    record(database, created(T0), used(T1))
    runner = Runner(database.app, [PROJECTION])
    fail_at_commit(database)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        runner.catch_up(connection)
    assert select(database, ROWS) == []
    work_again(database)
    runner.catch_up(connection)
    assert len(select(database, ROWS)) == 1


def row(number: int) -> SourceRow:
    return SourceRow(bytes([number]), datetime(2026, 1, 1, tzinfo=UTC), True, 0)


def sent(keys: StoredKeys, connection: Connection, version: int, *rows: SourceRow) -> list[Any]:
    with keys.once_committed(connection):
        return list(keys.to_send(PROJECTION, version, rows))


def test_of_known_keys_one_is_sent(connection: Connection) -> None:
    keys = StoredKeys()
    assert sent(keys, connection, 1, row(1), row(2)) == [row(1), row(2)]
    assert sent(keys, connection, 1, row(1), row(2), row(3)) == [row(3)]
    assert sent(keys, connection, 1, row(2), row(1), row(3)) == [row(2)]


def test_another_connection_knows_nothing(database: Database, connection: Connection) -> None:
    keys = StoredKeys()
    sent(keys, connection, 1, row(1), row(2))
    with psycopg.connect(database.app) as another:
        assert sent(keys, another, 1, row(1), row(2)) == [row(1), row(2)]
    assert sent(keys, connection, 1, row(1), row(2)) == [row(1), row(2)]


def test_a_failed_batch_forgets_what_was_known(connection: Connection) -> None:
    keys = StoredKeys()
    sent(keys, connection, 1, row(1), row(2))
    with pytest.raises(RuntimeError), keys.once_committed(connection):
        raise RuntimeError
    assert sent(keys, connection, 1, row(1), row(2)) == [row(1), row(2)]


def test_it_starts_anew_when_it_knows_many(connection: Connection) -> None:
    keys = StoredKeys(max_known=3)
    for number in range(20):
        assert sent(keys, connection, 1, row(number)) == [row(number)]
        assert len(keys) <= 3


def test_each_version_has_keys_of_its_own(connection: Connection) -> None:
    keys = StoredKeys()
    assert sent(keys, connection, 1, row(1), row(2)) == [row(1), row(2)]
    assert sent(keys, connection, 2, row(1), row(2)) == [row(1), row(2)]
    assert sent(keys, connection, 1, row(1), row(2)) == [row(1)]

"""A ledger whose events were copied without their sequence gives no position twice or too early."""

from collections.abc import Callable
from typing import Final

import psycopg
import pytest

from api.deployment import Keys, open_store
from api.doctor import locks
from api.doctor.finding import Status
from api.settings import Settings
from domain.eventstore.known_head.positions import behind
from domain.postgres.migrate import migrate
from projections.rebuild.requests import request
from projections.registry import PROJECTIONS
from tests.conftest import APP_ROLE, TESTS_KEY, Database
from tests.domain.eventstore.known_head.restored import append, newest

GAP: Final = 50


def migrated(database: Database) -> None:
    migrate(database.owner, app_role=APP_ROLE)


def started(database: Database) -> None:
    settings = Settings(database_url=database.app, pepper=TESTS_KEY, allow_unsafe_database=True)
    with open_store(settings, keys=Keys.RECORDED):
        pass


@pytest.fixture
def with_a_gap(database: Database) -> Database:
    """Positions up to 3, and one beyond a gap, as appends leave it that were rolled back."""
    append(database, 3)
    with psycopg.connect(database.app) as connection:
        connection.execute("SELECT ledger.skip_positions(%s)", [2 * GAP])
    append(database)
    return database


def without_sequence(database: Database, *, next_: int) -> None:
    """The events as a subscriber has them."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(f"ALTER SEQUENCE ledger.events_notification_id_seq RESTART {next_}".encode())


@pytest.mark.parametrize("set_right", [migrated, started])
@pytest.mark.parametrize("next_", [1, GAP, 2 * GAP + 1])
def test_the_next_event_comes_behind_all_that_there_are(
    with_a_gap: Database, next_: int, set_right: Callable[[Database], None]
) -> None:
    last = newest(with_a_gap)
    assert last == 2 * GAP + 1
    without_sequence(with_a_gap, next_=next_)
    with psycopg.connect(with_a_gap.app) as connection:
        found = locks.positions(connection)
    assert found.status is Status.FAIL
    assert f"the next event would get position {next_}, and the ledger is at {last}" in found.found
    set_right(with_a_gap)
    with psycopg.connect(with_a_gap.app) as connection:
        assert locks.positions(connection).status is Status.OK
    append(with_a_gap)
    assert newest(with_a_gap) == last + 1


def test_whatever_is_numbered_gets_a_number_behind_those_that_there_are(database: Database) -> None:
    append(database, 2)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        for view in PROJECTIONS[:2]:
            assert request(owner, view)
            owner.execute("INSERT INTO ledger.repairs (kind, by, reason) VALUES ('states', '', '')")
        numbered = owner.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'ledger' AND is_identity = 'YES'"
        ).fetchall()
        for table, column in numbered:
            owner.execute(f"ALTER TABLE ledger.{table} ALTER {column} RESTART".encode())
        migrated(database)
        for table, column in numbered:
            numbers = (
                f"SELECT max({column}), nextval('ledger.{table}_{column}_seq') FROM ledger.{table}"
            )
            assert owner.execute(numbers.encode()).fetchone() == (2, 3), table


def test_what_is_ahead_stays_so(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert behind(connection) is None
        append(database)
        assert behind(connection) is None
    without_sequence(database, next_=GAP)
    migrated(database)
    append(database)
    assert newest(database) == GAP


def test_a_role_that_may_not_look_at_the_sequence_goes_on(with_a_gap: Database) -> None:
    """The release before granted no look at it."""
    without_sequence(with_a_gap, next_=1)
    with psycopg.connect(with_a_gap.owner, autocommit=True) as owner:
        owner.execute(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA ledger FROM {APP_ROLE}".encode())
    with psycopg.connect(with_a_gap.app) as connection:
        assert behind(connection) is None

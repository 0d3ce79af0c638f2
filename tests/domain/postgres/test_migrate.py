"""Migrations: once each, whoever comes at the same time, never onto a later release."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.postgres.migrate import (
    WAIT_BRIEFLY,
    MigrationError,
    applied,
    available,
    migrate,
    pending,
    takes_owner,
)
from tests.conftest import APP_ROLE


def test_migrations_are_numbered_without_a_gap() -> None:
    assert sorted(available()) == [*range(1, len(available()) + 1)]


def test_no_two_migrations_have_one_number() -> None:
    names = [path.name for path in files("domain.eventstore").joinpath("migrations").iterdir()]
    assert len(available()) == len([name for name in names if name.endswith(".sql")])


def test_an_empty_database_lacks_every_migration(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        assert applied(connection) == set()
        assert pending(connection) == sorted(available())


def test_each_migration_is_applied_once(empty_database: str) -> None:
    assert migrate(empty_database, app_role=APP_ROLE) == sorted(available())
    assert migrate(empty_database, app_role=APP_ROLE) == []
    with psycopg.connect(empty_database) as connection:
        assert applied(connection) == set(available())
        assert pending(connection) == []


def test_two_migrations_at_once_both_succeed_and_apply_each_once(empty_database: str) -> None:
    with ThreadPoolExecutor() as threads:
        results = [threads.submit(migrate, empty_database, app_role=APP_ROLE) for _ in range(2)]
        numbers = [number for result in results for number in result.result(timeout=60)]
    assert sorted(numbers) == sorted(available())


def test_the_second_migration_waits_for_the_first(empty_database: str) -> None:
    """The lock is what makes them wait; somebody else holds it here,
    and nothing is applied meanwhile.
    """
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (\
        SELECT oid FROM pg_database WHERE datname = current_database())"
    with (
        psycopg.connect(empty_database) as first,
        psycopg.connect(empty_database, autocommit=True) as observer,
        ThreadPoolExecutor() as threads,
    ):
        first.execute("SELECT pg_advisory_xact_lock(7239075815)")
        second = threads.submit(migrate, empty_database, app_role=APP_ROLE)
        while observer.execute(waiting).fetchone() is None:
            assert not second.done(), "it was to wait"
        assert applied(observer) == set()
        first.rollback()
        assert second.result(timeout=60) == sorted(available())


def test_a_database_of_a_later_release_is_refused_and_left_alone(empty_database: str) -> None:
    migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as connection:
        connection.execute("INSERT INTO ledger.migrations (number) VALUES (9999)")
    with pytest.raises(MigrationError, match=r"later release: \[9999\]: run the release that made"):
        migrate(empty_database, app_role=APP_ROLE)


ANOTHER_ROLE: Final = "migrates_nothing"


@pytest.fixture
def another_role(empty_database: str) -> Iterator[str]:
    """Connection string of a role that may do nothing."""
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {ANOTHER_ROLE} LOGIN")
        yield make_conninfo(empty_database, user=ANOTHER_ROLE)
        admin.execute(f"DROP OWNED BY {ANOTHER_ROLE} CASCADE; DROP ROLE {ANOTHER_ROLE}")


def test_who_may_not_migrate_is_told_who_may(empty_database: str, another_role: str) -> None:
    with pytest.raises(MigrationError, match="it takes a role that may create schemas: set"):
        migrate(another_role, app_role=APP_ROLE)
    migrate(empty_database, app_role=APP_ROLE)
    owner = conninfo_to_dict(empty_database)["user"]
    may_not = f"may not migrate; it takes the owner: .* to a URL of the role {owner}; nothing was"
    with pytest.raises(MigrationError, match=may_not):
        migrate(another_role, app_role=APP_ROLE)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(f"GRANT USAGE ON SCHEMA ledger TO {ANOTHER_ROLE}")
        admin.execute(f"GRANT SELECT ON ledger.migrations TO {ANOTHER_ROLE}")
        with pytest.raises(MigrationError, match=may_not):
            migrate(another_role, app_role=APP_ROLE)
        admin.execute(
            "DELETE FROM ledger.migrations WHERE number = (SELECT max(number) FROM\
            ledger.migrations)"
        )
    with pytest.raises(MigrationError, match=may_not):
        migrate(another_role, app_role=APP_ROLE)


_OWNERS: Final = """
    SELECT DISTINCT owner::regrole::text FROM (
        SELECT relowner FROM pg_class WHERE relnamespace = 'ledger'::regnamespace
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace
        UNION SELECT nspowner FROM pg_namespace WHERE nspname IN ('ledger', 'views')
    ) AS parts (owner)"""


@pytest.mark.parametrize("upto", [1, 8, 21])
def test_whoever_migrates_the_ledger_stays_its_owners(
    empty_database: str, another_role: str, upto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the owner could not migrate it any more."""
    database = conninfo_to_dict(empty_database)["dbname"]
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(f'GRANT CREATE ON DATABASE "{database}" TO {ANOTHER_ROLE}'.encode())
        whole = available()
        with monkeypatch.context() as earlier:
            text = {number: sql for number, sql in whole.items() if number <= upto}
            earlier.setattr("domain.postgres.migrate.available", lambda: text)
            earlier.setattr("domain.postgres.migrate._grant", lambda *_: None)
            migrate(another_role, app_role=APP_ROLE)
        migrate(empty_database, app_role=APP_ROLE)
        assert admin.execute(_OWNERS).fetchall() == [(ANOTHER_ROLE,)]
        admin.execute("DROP SCHEMA views")
        migrate(empty_database, app_role=APP_ROLE)
        assert migrate(another_role, app_role=APP_ROLE) == []
        assert admin.execute(_OWNERS).fetchall() == [(ANOTHER_ROLE,)]
        admin.execute("ALTER TABLE ledger.events OWNER TO CURRENT_USER")
        admin.execute("REVOKE ALL ON ledger.events FROM migrates_nothing")
        with pytest.raises(MigrationError, match="belongs to several roles, parts of it to "):
            migrate(another_role, app_role=APP_ROLE)
        assert migrate(empty_database, app_role=APP_ROLE) == []


@pytest.mark.parametrize("role", ["ledger@project.iam", "Ledger Owner", 'o"wner'])
def test_an_owner_may_have_any_name(empty_database: str, role: str) -> None:
    """Of a cloud's own accounts it is an address."""
    names = {
        "role": sql.Identifier(role),
        "database": sql.Identifier(str(conninfo_to_dict(empty_database)["dbname"])),
    }
    owner = make_conninfo(empty_database, user=role)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {role} LOGIN").format(**names))
        try:
            admin.execute(sql.SQL("GRANT CREATE ON DATABASE {database} TO {role}").format(**names))
            migrate(owner, app_role=APP_ROLE)
            assert migrate(owner, app_role=APP_ROLE) == []
            with psycopg.connect(owner) as connection:
                assert "may create schemas" in takes_owner(connection), "it is the owner"
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {role} CASCADE; DROP ROLE {role}").format(**names))


def test_an_app_role_that_is_not_there_is_one_sentence(empty_database: str) -> None:
    with pytest.raises(MigrationError, match=r"no role as DATABASE_URL names it: .* nothing was"):
        migrate(empty_database, app_role='no"body')
    with psycopg.connect(empty_database) as connection:
        assert applied(connection) == set()


LATER: Final = 9999


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("ALTER TABLE ledger.aggregates ADD COLUMN more int", True),
        (
            "-- contract: nobody\nALTER TABLE ledger.aggregates RENAME originator_id TO more",
            False,
        ),
    ],
)
def test_a_release_goes_back_where_the_later_one_only_added(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, text: str, *, is_taken: bool
) -> None:
    with monkeypatch.context() as later:
        more = {**available(), LATER: text}
        later.setattr("domain.postgres.migrate.available", lambda: more)
        migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as connection:
        if is_taken:
            assert pending(connection) == []
            assert migrate(empty_database, app_role=APP_ROLE) == []
        else:
            with pytest.raises(MigrationError, match=r"later release: \[9999\]"):
                pending(connection)


def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {**available(), 9999: "CREATE TABLE ledger.half (x int); SELECT 1 / 0"}
    monkeypatch.setattr("domain.postgres.migrate.available", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT to_regnamespace('ledger')").fetchone() == (None,)


def test_a_migration_that_would_hold_up_the_doors_gives_up(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump holds the table; whoever uses it would wait behind the migration
    that waits for the dump.
    """
    migrate(empty_database, app_role=APP_ROLE)
    more = {**available(), 9999: "ALTER TABLE ledger.stream_heads ADD COLUMN more int"}
    monkeypatch.setattr("domain.postgres.migrate.available", lambda: more)
    with psycopg.connect(empty_database) as dump:
        dump.execute("SELECT count(*) FROM ledger.stream_heads")
        pid = dump.info.backend_pid
        told = (
            rf"holds, such as a dump \(process {pid} of .*, for \d+ s, ledger\.stream_heads\): "
            "nothing was changed"
        )
        with pytest.raises(MigrationError, match=told):
            migrate(empty_database, app_role=APP_ROLE)
    assert migrate(empty_database, app_role=APP_ROLE) == [9999]


@pytest.mark.long
def test_a_migration_that_falls_silent_lets_go_of_its_tables(empty_database: str) -> None:
    """What stands between holds its connection open; the doors need the tables."""
    migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as silent:
        silent.execute(WAIT_BRIEFLY)
        silent.execute("ALTER TABLE ledger.stream_heads ADD COLUMN more int")
        with psycopg.connect(empty_database) as door:
            door.execute("SET statement_timeout = '9s'")
            door.execute("SELECT count(*) FROM ledger.stream_heads")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            silent.execute("SELECT 1")


def test_a_dump_of_a_role_that_the_owner_may_not_watch_is_named_too(
    empty_database: str, another_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_dumpall runs: since when, and under what name, PostgreSQL keeps to itself."""
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO {ANOTHER_ROLE}")
    migrate(another_role, app_role=APP_ROLE)
    more = {**available(), 9999: "ALTER TABLE ledger.stream_heads ADD COLUMN more int"}
    monkeypatch.setattr("domain.postgres.migrate.available", lambda: more)
    with psycopg.connect(empty_database) as dump:
        dump.execute("SELECT count(*) FROM ledger.stream_heads")
        held = f"process {dump.info.backend_pid} of {dump.info.user}, ledger.stream_heads"
        with pytest.raises(MigrationError, match=re.escape(f"such as a dump ({held}): nothing")):
            migrate(another_role, app_role=APP_ROLE)


def test_the_app_role_may_do_exactly_what_it_needs(empty_database: str) -> None:
    migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as connection:
        rights = connection.execute(
            """
            SELECT relname, string_agg(privilege_type, ' ' ORDER BY privilege_type)
            FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'ledger'::regnamespace
                AND relkind IN ('r', 'v') AND grantee = %s::regrole GROUP BY relname
            """,
            [APP_ROLE],
        ).fetchall()
    assert dict(rights) == {
        "aggregates": "INSERT SELECT UPDATE",
        "api_tokens": "INSERT SELECT UPDATE",
        "commands": "DELETE INSERT SELECT UPDATE",
        "events": "INSERT SELECT",
        "heads": "INSERT SELECT UPDATE",
        "migrations": "SELECT",
        "pepper_generations": "INSERT SELECT",
        "projection_positions": "DELETE INSERT SELECT UPDATE",
        "projection_rebuilds": "INSERT SELECT UPDATE",
        "repaired_events": "SELECT",
        "repairs": "SELECT",
        "secrets": "INSERT SELECT UPDATE",
        "stream_heads": "INSERT SELECT UPDATE",
    }


CALLERS: Final = """
SELECT p.oid::regprocedure::text, array_agg(coalesce(r.rolname, 'PUBLIC')::text ORDER BY r.rolname)
FROM pg_proc p
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS granted
LEFT JOIN pg_roles r ON r.oid = granted.grantee
WHERE p.pronamespace IN ('ledger'::regnamespace, 'views'::regnamespace)
    AND granted.privilege_type = 'EXECUTE'
GROUP BY p.oid
"""
"""Every function of ours, and the roles that may call it."""
FUNCTIONS: Final = (
    "CREATE FUNCTION ledger.more() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT';"
    "CREATE PROCEDURE ledger.yet_more() LANGUAGE sql AS 'SELECT'"
)


@pytest.mark.parametrize("app_role", [APP_ROLE, None], ids=["two roles", "one role"])
@pytest.mark.parametrize("first", [19, max(available())], ids=["upgraded", "new"])
def test_nobody_but_the_roles_of_the_ledger_may_call_a_function_of_it(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, app_role: str | None, first: int
) -> None:
    """Also one of a later migration; one that runs as the owner could be called by any reader."""
    every, owner = available(), "postgres"
    for known in ({n: text for n, text in every.items() if n <= first}, {**every, 9999: FUNCTIONS}):
        monkeypatch.setattr("domain.postgres.migrate.available", lambda known=known: known)
        migrate(empty_database, app_role=app_role)
    with psycopg.connect(empty_database) as connection:
        callers: dict[str, list[str]] = dict(connection.execute(CALLERS).fetchall())
    expected = sorted({owner, app_role or owner})
    assert {"ledger.more()", "ledger.yet_more()", "ledger.skip_positions(bigint)"} <= {*callers}
    assert {name: roles for name, roles in callers.items() if roles != expected} == {}


def test_a_function_that_runs_as_the_owner_finds_only_what_is_meant(empty_database: str) -> None:
    """Or whoever calls it could put a function of his own in the way."""
    migrate(empty_database, app_role=APP_ROLE)
    with psycopg.connect(empty_database) as connection:
        rows = connection.execute(
            "SELECT proname, proconfig FROM pg_proc "
            "WHERE pronamespace = 'ledger'::regnamespace AND prosecdef"
        ).fetchall()
    assert rows == [("skip_positions", ["search_path=pg_catalog, pg_temp"])]


def test_without_an_app_role_nothing_is_granted(empty_database: str) -> None:
    migrate(empty_database, app_role=None)
    with psycopg.connect(empty_database) as connection:
        row = connection.execute(
            "SELECT has_table_privilege(%s, 'ledger.events', 'SELECT')", [APP_ROLE]
        ).fetchone()
    assert row == (False,)

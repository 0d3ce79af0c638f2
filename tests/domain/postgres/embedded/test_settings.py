"""The embedded server: what it runs with, and what it says."""

from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest

from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres
from tests.domain.postgres.embedded.servers import execute, postmaster_pid, setting
from tests.turns import by_turns


def test_no_network_socket_and_no_statement_in_the_log(shared: EmbeddedPostgres) -> None:
    assert setting(shared, "listen_addresses") == ""
    execute(shared, "CREATE TABLE secrets (digest text PRIMARY KEY)")
    execute(shared, "INSERT INTO secrets VALUES ('hunter2')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(shared, "INSERT INTO secrets VALUES ('hunter2')")
    log = (shared.base_dir / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert "hunter2" not in log


FAILING: Final[list[LiteralString]] = [
    "INSERT INTO kept VALUES (%(value)s, 1)",  # a key that is taken: its DETAIL quotes it
    "INSERT INTO kept VALUES (%(value)s || 'x', NULL)",  # the whole row
    "INSERT INTO kept VALUES (%(value)s || 'y', -1)",  # a check
    "SELECT 1 / (length(%(value)s) - length(%(value)s))",
    "SELECT pg_sleep(1), %(value)s::text",  # cancelled
    "SELECT no_such_column FROM kept WHERE value = %(value)s",
]


def fail_with(server: EmbeddedPostgres, value: str) -> str:
    """What the server's log says of statements that fail with a parameter."""
    with psycopg.connect(
        server.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS kept (value text PRIMARY KEY, number int NOT NULL)"
        )
        connection.execute("ALTER TABLE kept DROP CONSTRAINT IF EXISTS positive")
        connection.execute("ALTER TABLE kept ADD CONSTRAINT positive CHECK (number > 0)")
        connection.execute("INSERT INTO kept VALUES (%s, 1) ON CONFLICT DO NOTHING", [value])
        connection.execute("SET statement_timeout = 20")
        for statement in FAILING:
            for is_prepared in (False, True):
                with pytest.raises(psycopg.Error):
                    connection.execute(statement, {"value": value}, prepare=is_prepared)
    return (server.base_dir / "postgres.log").read_text()


def test_parameters_of_failed_statements_are_not_in_the_log(shared: EmbeddedPostgres) -> None:
    """E12: a secret's digest, a name, an address."""
    log = fail_with(shared, "swordfish")
    assert "canceling statement due to statement timeout" in log
    assert "division by zero" in log
    assert "swordfish" not in log


@pytest.mark.parametrize(
    "settings",
    by_turns(
        [
            {"log_error_verbosity": "default"},
            {"log_parameter_max_length_on_error": "-1", "log_error_verbosity": "default"},
            {
                "log_statement": "all",
                "log_parameter_max_length": "-1",
                "log_error_verbosity": "default",
            },
        ],
        one_of=3,
    ),
)
def test_with_other_settings_they_are(prepared: Path, settings: dict[str, str]) -> None:
    """The planted bug: each of ours is needed."""
    with EmbeddedPostgres(prepared, is_durable=False, settings=settings) as server:
        assert "swordfish" in fail_with(server, "swordfish")


def test_a_segment_of_the_log_is_small(shared: EmbeddedPostgres) -> None:
    """Every commit waits while one is made."""
    assert setting(shared, "wal_segment_size") == "2MB"


@pytest.mark.slow
def test_settings_of_the_caller_win(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False, settings={"max_connections": "20"}) as server:
        assert setting(server, "max_connections") == "20"
        assert setting(server, "fsync") == "off"


def test_the_environment_of_the_service_reaches_neither_server_nor_socket(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("LEDGER_PEPPER", "hunter2")
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running
        assert execute(server, "SELECT 1") == [(1,)]
        if Path("/proc/self").exists():
            environment = Path(f"/proc/{postmaster_pid(prepared)}/environ").read_bytes()
            assert b"LC_ALL" in environment
            assert b"hunter2" not in environment


@pytest.mark.parametrize(
    "variable",
    [
        ("PGHOSTADDR", "127.0.0.9"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGGSSENCMODE", "require"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGREQUIREPEER", "postgres"),
    ],
    ids=lambda variable: variable[0],
)
def test_what_a_variable_says_of_another_server_is_not_about_this_one(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    """B3: libpq reads variables of its own."""
    monkeypatch.setenv(*variable)
    assert shared.is_running
    assert execute(shared, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("value", ["", "\x01"], ids=["empty", "nonsense"])
def test_a_variable_that_cannot_be_meant_is_not_taken_for_somebody_else_s_server(
    shared: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Of each that libpq reads."""
    refused = set()
    for option in psycopg.pq.Conninfo.get_defaults():
        if option.envvar is None:
            continue
        name = option.envvar.decode()
        with monkeypatch.context() as said:
            said.setenv(name, value)
            try:
                assert shared.is_running, name
            except EmbeddedPostgresError:
                refused.add(name)
    assert "PGSERVICE" in refused
    assert not {"PGHOST", "PGPORT", "PGSSLMODE", "PGREQUIREPEER"} & refused
    monkeypatch.setenv("PGSERVICE", value)
    with pytest.raises(EmbeddedPostgresError, match=r"a PG\* variable is empty"):
        EmbeddedPostgres(shared.base_dir).start()


def test_a_refusal_to_start_says_why(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False, settings={"shared_buffers": "nonsense"})
    with pytest.raises(
        EmbeddedPostgresError, match=r"does not start\. invalid value.*shared_buffers"
    ):
        server.start()
    assert not server.is_running


def test_data_of_another_major_version_are_refused_by_both_names(prepared: Path) -> None:
    (prepared / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 16, the programs are 18\.\d+"):
        EmbeddedPostgres(prepared).start()


@pytest.mark.slow
def test_an_overgrown_log_starts_anew(prepared: Path) -> None:
    log = prepared / "postgres.log"
    log.write_bytes(b"old\n" * 3_000_000)
    with EmbeddedPostgres(prepared, is_durable=False):
        assert log.stat().st_size < 10_000


def test_a_place_that_cannot_be_made_is_one_clear_error(base_dir: Path) -> None:
    (base_dir / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot be used"):
        EmbeddedPostgres(base_dir / "file" / "below").start()

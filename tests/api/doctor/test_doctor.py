"""D7: each trouble that can be seen is a finding, caused here on a real database,
and its remedy is named.
"""

import json
import os
import re
import resource
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api.doctor import ledger, process, server
from api.doctor.examine import examine
from api.doctor.finding import Finding, Status, lines, ok, warn
from api.process import FEWEST, OTHER_DESCRIPTORS, TooFewDescriptors, check_descriptor_limit
from api.settings import Settings, SettingsError
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.secret import Pepper
from tests.api.cli.test_commands import VALUE, _unreachable, run
from tests.conftest import APP_ROLE, Database, catch_up
from tests.docs.documents import ROOT
from tests.domain.postgres.test_encoding import database_in
from tests.domain.scenario import created
from tests.projections.given_events import record
from tests.turns import by_turns

KEY: Final = "k" * 40
NEEDED: Final = {what for what, _ in process.NEEDED_AS.values()}
OVER_TLS: Final = {"https certificates", "database certificates"}
FAILS, WARNS, IS_OK = Status.FAIL, Status.WARN, Status.OK


def settings_of(database: Database, **changes: object) -> Settings:
    told = {"database_url": database.app, "pepper": KEY, "allow_unsafe_database": True}
    return Settings(**(told | changes))  # type: ignore[arg-type]


def found(database: Database, **changes: object) -> dict[str, Finding]:
    """Every finding by what it is about."""
    findings = examine(lambda: settings_of(database, **changes))
    assert len({finding.what for finding in findings}) == len(findings)
    assert all((finding.remedy is None) == (finding.status is IS_OK) for finding in findings)
    return {finding.what: finding for finding in findings}


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.app, autocommit=True) as opened:
        yield opened


def as_owner(database: Database, statement: str) -> None:
    """role and database stand for their names."""
    names = {
        "role": sql.Identifier(APP_ROLE),
        "database": sql.Identifier(str(conninfo_to_dict(database.owner)["dbname"])),
    }
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(sql.SQL(statement).format(**names))


@pytest.mark.long
def test_every_finding_is_in_the_reference(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_text(KEY)
    text = (ROOT / "docs/reference/doctor.md").read_text()
    documented = set(re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE))
    named = {
        re.sub("^view .*", "view name", what)
        for what in found(
            database, pepper=None, pepper_file=path, owner_database_url=database.owner
        )
    }
    assert named | {"embedded server", "disk", *NEEDED, *OVER_TLS} == documented


ORDER: Final = [
    "python",
    "open files",
    "settings",
    "leaks",
    "pepper",
    "database",
    "encoding",
    "collation",
    "writes",
    "role settings",
    "synchronous standby",
    "tls",
    "round trip",
    "checksums",
    "autovacuum",
    "transaction ids",
    "old snapshots",
    "server log",
    "durability",
    "connections",
    "hosts",
    "sessions",
    "migrations",
    "role",
    "rights",
    "locks",
    "positions",
    "pepper generations",
    "head file",
    "allowed networks",
    "clock",
    "ledger time",
    "repairs",
    "view scim_tokens",
    "view audit_trail",
    "view usage",
    "view token_sources",
    "old views",
    "warnings",
]
"""What is looked at, each once."""


def test_a_sound_installation_fails_in_nothing(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        record_pepper(connection, Pepper([KEY.encode()]))
    catch_up(database)
    findings = found(database)
    not_ok = {
        what: finding.status for what, finding in findings.items() if finding.status is not IS_OK
    }
    # The server of the tests does not fsync, their pepper is in the environment, no host is theirs.
    assert not_ok == {"durability": WARNS, "pepper": WARNS, "head file": WARNS}
    assert list(findings) == ORDER


LOGS: Final[LiteralString] = (
    "ALTER DATABASE {database} SET log_parameter_max_length = -1; ALTER DATABASE {database} "
)
"""The server of the tests writes no parameters down, whatever else it logs."""

EACH: Final[LiteralString] = "ALTER DATABASE {database} SET "

TROUBLES: Final[list[tuple[str, LiteralString, Status, str]]] = [
    (
        "writes",
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        FAILS,
        "read_only is on",
    ),
    (
        "role settings",
        (
            "ALTER ROLE {role} IN DATABASE {database} "
            "SET default_transaction_isolation = 'repeatable read'"
        ),
        WARNS,
        "default_transaction_isolation",
    ),
    (
        "role settings",
        "ALTER ROLE {role} IN DATABASE {database} SET intervalstyle = 'iso_8601'",
        WARNS,
        "IntervalStyle",
    ),
    ("role settings", EACH + "statement_timeout = '1ms'", WARNS, "statement_timeout"),
    ("role settings", EACH + "datestyle = 'German'", WARNS, "DateStyle"),
    ("role settings", EACH + "client_encoding = 'LATIN1'", WARNS, "client_encoding"),
    ("role settings", EACH + "search_path = 'nowhere'", WARNS, "search_path"),
    ("role settings", EACH + "synchronous_commit = off", WARNS, "synchronous_commit"),
    (
        "connections",
        "ALTER DATABASE {database} CONNECTION LIMIT 5",
        WARNS,
        "5 can be had, 14 are used",
    ),
    (
        "autovacuum",
        "ALTER TABLE ledger.stream_heads SET (autovacuum_enabled = off)",
        WARNS,
        "ledger.stream_heads",
    ),
    ("server log", LOGS + "SET log_statement = 'all'", WARNS, "log_statement=all"),
    ("server log", LOGS + "SET log_statement = 'mod'", WARNS, "log_statement=mod"),
    (
        "server log",
        LOGS + "SET log_min_duration_statement = 100",
        WARNS,
        "log_min_duration_statement=100",
    ),
    ("server log", LOGS + "SET log_min_duration_sample = 0", WARNS, "log_min_duration_sample=0"),
    (
        "server log",
        LOGS + "SET log_transaction_sample_rate = 1",
        WARNS,
        "log_transaction_sample_rate=1",
    ),
    ("rights", "DROP SCHEMA views CASCADE", FAILS, "CREATE on the schema views"),
    ("view usage", "DROP TABLE views.usage_v1", FAILS, "views.usage_v1 is missing"),
    ("warnings", "DROP TABLE views.scim_tokens_v1", FAILS, "of the view scim_tokens is missing"),
    ("migrations", "DELETE FROM ledger.migrations WHERE number = 4", FAILS, "pending: 4"),
    ("migrations", "INSERT INTO ledger.migrations VALUES (9999)", FAILS, "later release: [9999]"),
    ("migrations", "REVOKE USAGE ON SCHEMA ledger FROM {role}", FAILS, "may not look into"),
    ("role", "GRANT UPDATE ON ledger.events TO {role}", WARNS, "may UPDATE events"),
    (
        "role",
        "GRANT DELETE, TRUNCATE ON ledger.events TO {role}",
        WARNS,
        "may DELETE, TRUNCATE events",
    ),
    ("role", "ALTER TABLE ledger.events OWNER TO {role}", WARNS, "owns the ledger"),
    (
        "rights",
        "REVOKE INSERT ON ledger.events FROM {role}",
        FAILS,
        "lacks INSERT on ledger.events",
    ),
    (
        "rights",
        "REVOKE CREATE ON SCHEMA views FROM {role}",
        FAILS,
        "lacks CREATE on the schema views",
    ),
    (
        "rights",
        "REVOKE INSERT ON ledger.pepper_generations FROM {role}",
        FAILS,
        "on ledger.pepper_generations",
    ),
    ("rights", "REVOKE SELECT ON ledger.migrations FROM {role}", FAILS, "may not read all"),
    (
        "rights",
        "REVOKE SELECT ON ledger.repairs FROM {role}",
        FAILS,
        "lacks SELECT on ledger.repairs",
    ),
    (
        "rights",
        "REVOKE UPDATE ON ledger.stream_heads FROM {role}",
        FAILS,
        "lacks UPDATE on ledger.stream_heads",
    ),
    (
        "rights",
        "REVOKE EXECUTE ON FUNCTION ledger.lock_appends() FROM {role}, PUBLIC",
        FAILS,
        "lacks EXECUTE on ledger.lock_appends()",
    ),
    (
        "pepper generations",
        "INSERT INTO ledger.pepper_generations VALUES (1, decode(repeat('00', 16), 'hex'))",
        FAILS,
        "its key of generation 1 is another",
    ),
    (
        "view usage",
        (
            "UPDATE ledger.projection_positions SET stopped_at = 1, error = 'KeyError' "
            "WHERE name = 'usage'"
        ),
        FAILS,
        "stopped at event 1: KeyError",
    ),
    (
        "warnings",
        "UPDATE ledger.projection_positions SET stopped_at = 1 WHERE name = 'token_sources'",
        FAILS,
        "none is told of what came later: the view token_sources has stopped",
    ),
    (
        "warnings",
        "UPDATE ledger.projection_positions SET shape = 0 WHERE name = 'scim_tokens'",
        WARNS,
        "what is due is not known",
    ),
    (
        "view usage",
        "UPDATE ledger.projection_positions SET shape = 0 WHERE name = 'usage'",
        WARNS,
        "not built yet",
    ),
    (
        "old views",
        "UPDATE ledger.projection_positions SET shape = 0, version = 7 WHERE name = 'usage'",
        WARNS,
        "usage_v7",
    ),
    (
        "allowed networks",
        (
            "INSERT INTO ledger.secrets VALUES (sha256(''), gen_random_uuid(), "
            "gen_random_uuid(), 'infinity', NULL, ARRAY['192.0.2.0/24'::inet])"
        ),
        WARNS,
        "they let nobody in",
    ),
    (
        "repairs",
        (
            "INSERT INTO ledger.repairs (kind, at, by, reason) "
            "VALUES ('pepper', '2026-11-28 12:00Z', 'ada', '')"
        ),
        IS_OK,
        "ledger.repairs tells of pepper on 2026-11-28",
    ),
]


@pytest.mark.parametrize(
    ("what", "cause", "status", "said"),
    by_turns(TROUBLES, one_of=3),
    ids=[cause for _, cause, *_ in TROUBLES],
)
def test_a_trouble_is_a_finding(
    database: Database, what: str, cause: LiteralString, status: Status, said: str
) -> None:
    as_owner(database, cause)
    finding = found(database)[what]
    assert (finding.status, said in finding.found) == (status, True), finding


def test_what_a_role_could_do_as_superuser_is_told(database: Database) -> None:
    finding = found(database, database_url=database.owner)["role"]
    assert (finding.status, "is a superuser" in finding.found) == (WARNS, True)


def test_parameters_that_are_not_logged_are_no_trouble(database: Database) -> None:
    as_owner(database, "ALTER DATABASE {database} SET log_statement = 'all'")
    as_owner(database, "ALTER DATABASE {database} SET log_parameter_max_length = 0")
    assert found(database)["server log"].status is IS_OK


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_told_and_the_rest_is_not_looked_at(server: str, encoding: str) -> None:
    with database_in(server, encoding) as owner:
        findings = found(Database(owner, owner))
    assert list(findings)[-1] == "encoding"
    assert findings["encoding"].status is FAILS
    assert findings["encoding"].found.startswith(f"the database's encoding is {encoding}")


def test_a_server_that_may_lose_what_it_confirmed_fails_unless_that_is_allowed(
    database: Database,
) -> None:
    refused = found(database, allow_unsafe_database=False)["durability"]
    allowed = found(database)["durability"]
    assert (refused.status, allowed.status) == (FAILS, WARNS)
    assert "fsync=off" in refused.found


@pytest.mark.parametrize(
    ("oldest", "newest", "status"), [(15, 18, IS_OK), (99, 99, FAILS), (1, 2, WARNS)], ids=str
)
def test_the_version_is_judged(
    connection: psycopg.Connection, oldest: int, newest: int, status: Status
) -> None:
    assert server.version(connection, oldest=oldest, newest=newest).status is status


def test_a_view_that_is_far_behind_warns(
    database: Database, connection: psycopg.Connection
) -> None:
    record(database, created())
    assert {finding.status for finding in ledger.views(connection, max_lag=0)} == {WARNS, IS_OK}
    late = ledger.warnings(connection, max_lag=0)
    assert (late.status, late.found.endswith(" is far behind")) == (WARNS, True), late
    catch_up(database)
    assert {finding.status for finding in ledger.views(connection, max_lag=0)} == {IS_OK}
    assert ledger.warnings(connection, max_lag=0).status is IS_OK


def test_a_new_key_and_a_ledger_that_knows_none_warn(database: Database) -> None:
    unknown = found(database)["pepper generations"]
    assert (unknown.status, "does not know its pepper" in unknown.found) == (WARNS, True)
    with psycopg.connect(database.app, autocommit=True) as connection:
        record_pepper(connection, Pepper([KEY.encode()]))
    new = found(database, pepper=f"{KEY} {'n' * 40}")["pepper generations"]
    assert (new.status, new.found) == (WARNS, "1 key(s) are new to the ledger")


def test_a_transaction_that_keeps_dead_rows_warns(
    database: Database, connection: psycopg.Connection
) -> None:
    with psycopg.connect(database.app) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        pid = other.info.backend_pid
        finding = server.snapshots(connection, max_=timedelta(0))
        assert finding.status is WARNS
        assert f"(pid {pid})" in finding.found
        assert str(pid) not in server.snapshots(connection).found


@pytest.mark.parametrize("mode", by_turns([0o640, 0o604, 0o660, 0o644], one_of=4))
def test_a_pepper_file_that_others_can_read_warns(
    database: Database, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "pepper"
    path.write_text(KEY)
    path.chmod(0o600)
    assert found(database, pepper=None, pepper_file=path)["pepper file"].status is IS_OK
    path.chmod(mode)
    finding = found(database, pepper=None, pepper_file=path)["pepper file"]
    assert (finding.status, finding.remedy) == (WARNS, f"chmod 600 {path}")


def test_a_pepper_that_cannot_be_read_or_is_short_fails(database: Database, tmp_path: Path) -> None:
    for changes in (
        {"pepper": "short"},
        {"pepper": None, "pepper_file": tmp_path / "absent"},
        {"pepper": None},
    ):
        assert found(database, **changes)["pepper"].status is FAILS


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        (0, FAILS),
        (OTHER_DESCRIPTORS + FEWEST - 1, FAILS),
        (OTHER_DESCRIPTORS + FEWEST, WARNS),
        (process.FILES - 1, WARNS),
        (process.FILES, IS_OK),
        (resource.RLIM_INFINITY, IS_OK),
    ],
)
def test_few_descriptors_are_told(
    limit: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails where, and only where, no worker starts."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (16, limit))
    with nullcontext() if status is not FAILS else pytest.raises(TooFewDescriptors):
        check_descriptor_limit()
    finding = process.open_files()
    assert finding.status is status
    assert (finding.remedy is None) == (status is IS_OK)


def test_a_disk_that_is_nearly_full_warns(tmp_path: Path) -> None:
    assert process.disk(tmp_path, room=1).status is IS_OK
    assert process.disk(tmp_path / "not" / "made", room=1 << 60).status is WARNS


def test_a_plain_variable_that_says_another_thing_than_the_one_that_is_used_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIM_LEDGER_DATABASE_URL", database.app)
    monkeypatch.setenv("DATABASE_URL", database.app)
    assert found(database)["settings"].status is IS_OK
    monkeypatch.setenv("DATABASE_URL", database.owner)
    finding = found(database)["settings"]
    assert finding.status is WARNS
    assert finding.found == "DATABASE_URL differs from SCIM_LEDGER_DATABASE_URL, which is used"
    assert finding.remedy == "remove one of them"


def test_settings_and_a_database_that_is_away_are_told_without_values() -> None:
    def refused() -> Settings:
        raise SettingsError("SCIM_LEDGER_PORT must be a whole number without a unit")

    assert examine(refused)[-1].found == "SCIM_LEDGER_PORT must be a whole number without a unit"
    away = examine(lambda: Settings(database_url=_unreachable(), pepper=KEY))[-1]
    assert (away.what, away.status) == ("database", FAILS)
    assert VALUE not in str(away)


def test_lines_are_for_people() -> None:
    assert lines([ok("python", "3.11.7"), warn("tls", "off", "set sslmode")]) == [
        "ok    python                 3.11.7",
        "warn  tls                    off",
        "                             -> set sslmode",
        "1 ok, 1 warn, 0 fail",
    ]


def test_the_command_exits_with_1_on_a_failure_and_not_on_a_warning(database: Database) -> None:
    warned = run(database.app, "doctor")
    assert warned.exit_code == 0, warned.stdout
    assert re.search(r"^warn  durability ", warned.stdout, re.MULTILINE)
    assert warned.stdout.splitlines()[-1].endswith(" warn, 0 fail")
    as_owner(database, "INSERT INTO ledger.migrations VALUES (9999)")
    failed = run(database.app, "doctor", "--json")
    assert failed.exit_code == 1
    findings = json.loads(failed.stdout)
    assert all(list(finding) == ["what", "status", "found", "remedy"] for finding in findings)
    assert findings[-1] == {
        "what": "migrations",
        "status": "fail",
        "found": "the database has migrations of a later release: [9999]",
        "remedy": "run the release that made them, or a later one",
    }
    assert os.environ.get("DATABASE_URL") is None

"""The connection to the database is lost in the middle of a command: one sentence says what to do,
and that is enough.
"""

import socket
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli.backup import BackupError, _program, _run
from domain.postgres.trouble.unusable_reasons import reason
from tests.api.cli.test_commands import refused, run, told
from tests.conftest import Database, new_database
from tests.domain.postgres.test_connection import silence_limits
from tests.domain.scenario import created
from tests.faults.proxy import Fault, Proxy, ProxyThread, proxy_thread
from tests.projections.given_events import record
from tests.turns import by_turns

CUTS: Final = 5
LOST: Final = (
    "the database closed the connection, or the network lost it: the log of the database says "
    "which; then repeat it"
)
IS_RESTORED: Final = "the backup itself is restored: then go on with scim-ledger migrate, and"
FINISHED_BY_MIGRATE: Final = "scim-ledger migrate finishes it"
COMMANDS: Final = (
    "verify",
    "audit export",
    "projections rebuild usage",
    "projections verify",
    "migrate",
    "keys",
)
TELLS: Final = """#!/bin/sh
printf '%s' "$2" > {here}/told
"""
POOLER: Final = """#!/bin/sh
case "$2" in *options=*)
  echo "pg_dump: error: FATAL: unsupported startup parameter in options: tcp_user_timeout" >&2
  exit 1
esac
"""


@pytest.fixture
def empty(server: str) -> Iterator[Database]:
    with new_database(server, template="template0") as made:
        yield made


@pytest.fixture
def proxy(database: Database) -> Iterator[ProxyThread]:
    record(database, created())
    told(database.owner, "migrate")
    with proxy_thread(database.owner) as thread:
        yield thread


def cut(thread: ProxyThread, after: int) -> None:
    """Lose the connection of the statement after so many."""
    thread.tell(Proxy.forget)
    thread.tell(lambda proxy: proxy.strike(Fault.NEVER_SENT, skip=after))


def statements(thread: ProxyThread, *arguments: str) -> int:
    """How many a command has, which goes well."""
    counted: list[int] = []
    thread.tell(lambda proxy: counted.append(proxy.answers))
    done = run(thread.conninfo, *arguments)
    assert done.exit_code == 0, done.stderr
    thread.tell(lambda proxy: counted.append(proxy.answers))
    return next(after - before for before, after in pairwise(counted))


def last_line(stderr: str) -> str:
    return stderr.splitlines()[-1].removeprefix("scim-ledger: ")


@pytest.mark.parametrize("command", by_turns(COMMANDS, one_of=2))
def test_a_command_says_why_and_is_repeated(
    database: Database, proxy: ProxyThread, command: str
) -> None:
    words = command.split()
    count = statements(proxy, *words)
    lost = 0
    for number in range(CUTS):
        cut(proxy, count * number // CUTS)
        done = run(proxy.conninfo, *words)
        if done.exit_code == 0:  # it was no statement that it needs
            continue
        lost += 1
        said = last_line(done.stderr)
        assert said == LOST
        assert run(database.owner, *words).exit_code == 0
    assert lost
    told(database.owner, "verify")


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_finds_no_database_is_repeated_too(proxy: ProxyThread, command: str) -> None:
    proxy.tell(Proxy.refuse)
    assert refused(proxy.conninfo, *command.split()) == LOST
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        there = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
        assert refused(there, *command.split()).endswith("; then repeat it")


@pytest.mark.long
def test_a_restore_is_gone_on_with_as_it_says(
    server: str, database: Database, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup")
    record(database, created())
    events = told(database.owner, "backup", file)["events"]
    with (
        new_database(server, template="template0") as made,
        proxy_thread(made.owner) as thread,
    ):
        count = statements(thread, "restore", file)
    for number in range(CUTS):
        with (
            new_database(server, template="template0") as made,
            proxy_thread(made.owner) as thread,
        ):
            if number == 0:  # done, and nobody knows
                thread.tell(lambda proxy: proxy.strike(Fault.REPLY_LOST, "COMMIT"))
            else:
                cut(thread, count * number // CUTS)
            done = run(thread.conninfo, "restore", file)
            if done.exit_code == 0:
                continue
            go_on(made, file, last_line(done.stderr))
            checked = told(made.owner, "verify")
            assert (checked["events"], checked["damage"]) == (events, None)


def go_on(made: Database, file: str, said: str) -> None:
    """What the sentence says, and for one that is to be repeated what that says."""
    if IS_RESTORED in said:
        told(made.owner, "migrate")
        return
    again = run(made.owner, "restore", file)
    if again.exit_code != 0:
        assert FINISHED_BY_MIGRATE in again.stderr, (said, again.stderr)
        told(made.owner, "migrate")


def test_a_backup_that_lost_its_server_says_so_and_leaves_no_file(
    database: Database, proxy: ProxyThread, tmp_path: Path
) -> None:
    proxy.tell(lambda proxy: proxy.strike(Fault.REPLY_LOST, "COPY"))
    said = refused(proxy.conninfo, "backup", str(tmp_path / "backup"))
    assert LOST in said
    assert list(tmp_path.iterdir()) == []
    told(database.owner, "backup", str(tmp_path / "backup"))


class TestPrograms:
    """Of PostgreSQL's own, which would wait for two hours."""

    @pytest.fixture
    def conninfo(self, database: Database, tmp_path: Path) -> str:
        """What one is told."""
        program = tmp_path / "pg_dump"
        program.write_text(TELLS.format(here=tmp_path))
        program.chmod(0o700)
        given = make_conninfo(database.owner, options="-c work_mem=5MB")
        _run(program, given, "--file=x", remedy="")
        return (tmp_path / "told").read_text().removeprefix("--dbname=")

    @pytest.mark.skipif(sys.platform != "linux", reason="the options have other names elsewhere")
    def test_one_notices_a_machine_that_is_gone(self, conninfo: str) -> None:
        idle_s, interval_s, count, unsent_ms = silence_limits(conninfo)
        assert idle_s + interval_s * count <= 8
        assert 30_000 <= unsent_ms <= 60_000, "a disk that is busy is no network that is gone"

    def test_so_does_its_server(self, conninfo: str) -> None:
        with psycopg.connect(conninfo) as connection:
            stated = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM pg_settings WHERE source = 'client'"
                )
            }
            assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert {
            *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
            "tcp_user_timeout",
        } <= stated

    def test_of_several_hosts_it_is_the_one_that_takes_writes(self, conninfo: str) -> None:
        told = conninfo_to_dict(conninfo)
        assert told["target_session_attrs"] == "read-write"
        assert told["application_name"] == "pg_dump"

    @pytest.mark.long
    def test_one_does_not_wait_to_be_let_in(self, database: Database) -> None:
        with psycopg.connect(database.owner) as connection:
            program = _program("pg_dump", connection.info.server_version)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            there = make_conninfo(host="127.0.0.1", port=silent.getsockname()[1], dbname="x")
            with pytest.raises(BackupError, match=r"does not answer: .*; then repeat it"):
                _run(program, there, "--file=x", remedy="")

    def test_a_pooler_that_takes_no_options_is_given_none(
        self, database: Database, tmp_path: Path
    ) -> None:
        program = tmp_path / "pg_dump"
        program.write_text(POOLER)
        program.chmod(0o700)
        _run(program, database.owner, "--file=x", remedy="")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("consuming input failed: SSL SYSCALL error: Connection timed out", "does not answer"),
        ("consuming input failed: SSL SYSCALL error: EOF detected", "closed the connection"),
        ("SSL connection has been closed unexpectedly", "closed the connection"),
        ("the connection is closed", "closed the connection"),
    ],
)
def test_one_that_was_made_and_is_lost_is_no_matter_of_tls(text: str, means: str) -> None:
    assert means in reason(psycopg.OperationalError(text))

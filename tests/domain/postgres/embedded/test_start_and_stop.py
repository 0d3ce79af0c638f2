"""The embedded server starts, stops and comes back, on real processes and real directories."""

import os
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres
from tests.domain.postgres.embedded.servers import (
    ACCOUNT,
    IS_ROOT,
    execute,
    linux_only,
    postmaster_pid,
    processes_in,
    setting,
)


@linux_only
def test_a_first_start_needs_nothing_and_stop_leaves_no_process(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    server = EmbeddedPostgres(base_dir / "new" / "place", is_durable=False)
    assert not server.is_running
    server.start()
    data = base_dir / "new" / "place" / "data"
    assert server.is_running
    assert execute(server, "SELECT 1") == [(1,)]
    assert processes_in(data)
    server.stop()
    assert not server.is_running
    assert processes_in(data) == []
    server.stop()


def test_stop_before_any_start_makes_no_directory(base_dir: Path) -> None:
    EmbeddedPostgres(base_dir / "absent").stop()
    assert not (base_dir / "absent").exists()


@pytest.mark.long
def test_a_restart_keeps_the_data(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert execute(server, "SELECT answer FROM kept") == [(42,)]


@pytest.mark.long
def test_clients_that_stay_connected_do_not_hold_up_stop(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres")) as connection:
        connection.execute("SELECT 1")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    log = (prepared / "postgres.log").read_text()
    assert "received fast shutdown request" in log
    assert "immediate shutdown request" not in log


# --- crashes


@pytest.mark.long
def test_a_killed_server_comes_back_with_every_committed_row(base_dir: Path) -> None:
    server = EmbeddedPostgres(base_dir)
    server.start()
    assert [
        setting(server, name) for name in ("fsync", "full_page_writes", "synchronous_commit")
    ] == ["on"] * 3
    execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster_pid(base_dir), signal.SIGKILL)
    server.start()
    assert execute(server, "SELECT answer FROM kept") == [(42,)]
    server.stop()


BUSY = """
SELECT pid FROM pg_stat_activity
WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()
"""


@pytest.mark.slow
def test_a_start_waits_for_a_backend_that_outlives_its_killed_server(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    with closing(
        psycopg.connect(server.conninfo(user="postgres", dbname="postgres"))
    ) as connection:
        connection.pgconn.send_query(
            b"SELECT count(*) FROM generate_series(1, 5000) a, generate_series(1, 5000) b"
        )
        deadline = time.monotonic() + 10
        while not execute(server, BUSY):
            assert time.monotonic() < deadline
        os.kill(postmaster_pid(prepared), signal.SIGKILL)
        server.start()
    assert execute(server, "SELECT 1") == [(1,)]
    assert "pre-existing shared memory block" in (prepared / "postgres.log").read_text()
    server.stop()


@pytest.mark.long
def test_a_killed_initdb_is_started_over(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    left_over = base_dir / "data.new"
    (left_over / "base").mkdir(parents=True)
    (left_over / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(base_dir, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    assert not left_over.exists()


@pytest.mark.long
def test_a_reused_pid_neither_stops_the_start_nor_is_signalled(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared, is_durable=False)
    server.start()
    real = postmaster_pid(prepared)
    os.kill(real, signal.SIGKILL)
    identity = {"user": ACCOUNT[0]} if IS_ROOT else {}
    with subprocess.Popen(["sleep", "600"], **identity) as bystander:  # type: ignore[call-overload]
        try:
            for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
                stale = prepared / "data" / name
                stale.write_text(stale.read_text().replace(f"{real}\n", f"{bystander.pid}\n", 1))
            assert not server.is_running
            server.stop()
            assert bystander.poll() is None
            server.start()
            assert execute(server, "SELECT 1") == [(1,)]
            server.stop()
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.long
def test_a_server_whose_process_cannot_be_seen_is_not_joined_by_a_second(prepared: Path) -> None:
    with EmbeddedPostgres(prepared, is_durable=False):
        pid_file = prepared / "data" / "postmaster.pid"
        seen = pid_file.read_text()
        # as in a container
        pid_file.write_text(seen.replace(str(postmaster_pid(prepared)), str(os.getpid()), 1))
        with pytest.raises(EmbeddedPostgresError, match="another container"):
            EmbeddedPostgres(prepared).start()
        pid_file.write_text(seen)


@pytest.mark.long
def test_an_empty_pid_file_does_not_stop_the_start(prepared: Path) -> None:
    (prepared / "data" / "postmaster.pid").touch()
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running


# --- several processes

"""The embedded server, used by several processes at once."""

import random
import subprocess
import time
from pathlib import Path

import pytest

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.domain.postgres.embedded.servers import (
    START_AND_VANISH,
    execute,
    linux_only,
    output_of,
    postmaster_pid,
    processes_in,
    python,
)

USE_UNTIL_TOLD = """
import select, signal, sys
from pathlib import Path
import psycopg
from domain.postgres.embedded.server import EmbeddedPostgres
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("starting", file=sys.stderr, flush=True)
with EmbeddedPostgres(Path(sys.argv[1]), is_durable=False) as server:
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres"),
        autocommit=True) as connection:
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            connection.execute("SELECT 1")
        connection.execute("SELECT 1")
print("undisturbed")
"""


# --- first start, stop, restart


@pytest.mark.long
def test_a_running_server_is_adopted_and_can_be_stopped(prepared: Path) -> None:
    pid = output_of(python(START_AND_VANISH, prepared))
    successor = EmbeddedPostgres(prepared, is_durable=False)
    assert successor.is_running
    successor.start()
    assert postmaster_pid(prepared) == int(pid)
    assert execute(successor, "SELECT 1") == [(1,)]
    successor.stop()
    assert not successor.is_running


@pytest.mark.long
def test_two_processes_at_once_end_with_one_server(base_dir: Path) -> None:
    both = [python(START_AND_VANISH, base_dir) for _ in range(2)]
    first, second = [output_of(child) for child in both]
    assert first == second
    EmbeddedPostgres(base_dir).stop()


def test_only_the_last_user_stops_the_server(prepared: Path) -> None:
    """C11, in every order in which two can leave."""
    first, second = (EmbeddedPostgres(prepared, is_durable=False) for _ in range(2))
    for leaves_first, leaves_last in ((first, second), (second, first)):
        first.start()
        second.start()
        EmbeddedPostgres(prepared).stop()
        leaves_first.stop()
        assert leaves_last.is_running
        leaves_last.stop()
        assert not leaves_last.is_running


@pytest.mark.long
@linux_only
def test_whatever_starts_stops_and_is_killed_nobody_is_disturbed_and_nothing_is_left(
    base_dir: Path,
) -> None:
    """C11: each process that uses the server sees it up for as long as it does;
    none sees a failure.
    """
    base_dir.chmod(0o711)
    dice = random.Random(seed := random.randrange(1 << 32))
    users: list[subprocess.Popen[str]] = []
    for _ in range(20):
        if len(users) < 2 or (len(users) < 5 and dice.random() < 0.5):
            users.append(python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE))
            continue
        leaving = users.pop(dice.randrange(len(users)))
        if dice.random() < 0.5:
            leaving.kill()
            assert "Traceback" not in leaving.communicate(timeout=60)[1]
        else:
            assert output_of(leaving) == "undisturbed", f"seed {seed}"
    for leaving in users:
        assert output_of(leaving) == "undisturbed", f"seed {seed}"
    assert processes_in(base_dir / "data") == [], f"seed {seed}"


@pytest.mark.long
@linux_only
def test_one_that_is_told_to_end_while_it_starts_leaves_nothing(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    for after_s in (0.0, 0.1, 0.2, 0.4, 0.8, 1.2):
        child = python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE)
        assert child.stderr is not None
        assert child.stderr.readline() == "starting\n"
        time.sleep(after_s)  # no synchronisation: wherever it is by then
        child.terminate()
        child.communicate(timeout=60)
        with EmbeddedPostgres(base_dir).alone():
            pass
        assert processes_in(base_dir / "data") == []


@pytest.mark.long
@linux_only
def test_an_initdb_that_outlives_its_starter_is_waited_for(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    child = python(USE_UNTIL_TOLD, base_dir, stdin=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(base_dir.glob("data.new/data/*")):
        assert time.monotonic() < deadline
    child.kill()
    child.communicate()
    with EmbeddedPostgres(base_dir, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
    assert not (base_dir / "data.new").exists()


@pytest.mark.long
def test_a_lock_that_was_removed_as_left_over_still_keeps_others_out(prepared: Path) -> None:
    server = EmbeddedPostgres(prepared)
    with server.alone():
        (prepared / "lock").unlink()
        child = python(USE_UNTIL_TOLD, prepared, stdin=subprocess.DEVNULL)
        assert output_of(child) == "undisturbed"
    with server.alone():
        assert (prepared / "lock").exists()


# --- where it lives, and who may enter

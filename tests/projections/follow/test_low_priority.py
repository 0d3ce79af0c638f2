"""Work that can wait gives way: this thread or program and its server process,
and nobody else's.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from projections.follow import low_priority as background
from projections.follow.low_priority import NICE, NICE_FOLLOWING, give_way
from tests.conftest import Database
from tests.faults.own_server import process_tree
from tests.service import RunningService, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")


def nice(process_id: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, process_id)


def nice_session(process_id: int | str) -> int | None:
    """Of the session that a process belongs to;
    None where the kernel does not schedule that as one.

    Either it schedules no session so and has no such file, or it does, but the process still
    belongs to the first one of the machine, as in some containers: then the file is empty.
    """
    told = Path(f"/proc/{process_id}/autogroup")
    words = told.read_text().split() if told.exists() else []
    return int(words[-1]) if words else None


@pytest.fixture
def seen(database: Database) -> dict[str, int | None]:
    """The values of a thread that gave way, of its server process,
    and of the server process of another.
    """
    found: dict[str, int | None] = {}

    def work() -> None:
        with psycopg.connect(database.app) as mine, psycopg.connect(database.app) as other:
            if background._server_process(mine) is None:
                return
            give_way(mine)
            found["thread"] = nice(threading.get_native_id())
            found["server"] = nice(mine.info.backend_pid)
            found["other"] = nice(other.info.backend_pid)
            found["session"] = nice_session(mine.info.backend_pid)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    if not found:
        pytest.skip("the database is not on this machine")
    return found


def test_the_thread_and_its_server_process_are_nice(seen: dict[str, int | None]) -> None:
    assert seen["thread"] == seen["server"] == NICE
    assert seen["session"] in (NICE, None)


def test_nobody_else_is(seen: dict[str, int | None]) -> None:
    assert seen["other"] == nice(os.getpid())
    assert nice(os.getpid()) == nice(threading.get_native_id()) < NICE


LEADERS = """
    SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""


def command_line(process_id: int) -> bytes:
    return Path(f"/proc/{process_id}/cmdline").read_bytes()


PROGRAM = f"""
import sys
from projections.follow.low_priority import process_gives_way
process_gives_way(nice={NICE_FOLLOWING})
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("leads", [True, False])
def test_a_program_is_nice_and_its_session_if_that_is_its_own(*, leads: bool) -> None:
    ours = nice_session("self")
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=leads,
    )
    with program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == b"done\n"
        assert nice(program.pid) == NICE_FOLLOWING
        if leads:
            assert nice_session(program.pid) in (NICE_FOLLOWING, None)
        else:
            assert nice_session(program.pid) == ours
        assert nice_session("self") == ours
        program.stdin.close()


@pytest.mark.long
def test_the_views_of_a_service_give_way(
    two_services: tuple[RunningService, RunningService],
) -> None:
    def are_nice() -> bool:
        with psycopg.connect(database.owner) as connection:
            leaders = connection.execute(LEADERS).fetchall()
        return bool(leaders) and {nice(pid) for (pid,) in leaders} == {NICE_FOLLOWING}

    database = two_services[0].database
    for service in two_services:
        programs = [
            pid for pid in process_tree(service.pid) if b"api.server.projector" in command_line(pid)
        ]
        assert [nice(pid) for pid in programs] == [NICE_FOLLOWING]
        assert all(nice_session(pid) in (NICE_FOLLOWING, None) for pid in programs)
    with psycopg.connect(database.owner) as connection:
        if background._server_process(connection) is not None:
            until(are_nice, timeout_s=10, what="the leader's server process is nice")


def test_a_process_that_is_not_the_postmasters_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another container, where the server's number is somebody else's here."""
    with psycopg.connect(database.app) as connection:
        monkeypatch.setattr(background, "_parent", lambda _: 1)
        assert background._server_process(connection) is None
        monkeypatch.setattr(background, "_parent", lambda _: None)
        assert background._server_process(connection) is None

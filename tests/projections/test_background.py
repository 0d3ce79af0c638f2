"""Rebuilds give way: this thread and its server process, and nobody else's."""

import os
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from projections import background
from projections.background import NICE, give_way
from tests.conftest import Database

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")


def nice(process_id: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, process_id)


@pytest.fixture
def seen(database: Database) -> dict[str, int]:
    """The values of a thread that gave way, of its server process, and of the server process of another."""
    found: dict[str, int] = {}

    def work() -> None:
        with psycopg.connect(database.app) as mine, psycopg.connect(database.app) as other:
            if background._server_process(mine) is None:
                return
            give_way(mine)
            found["thread"] = nice(threading.get_native_id())
            found["server"] = nice(mine.info.backend_pid)
            found["other"] = nice(other.info.backend_pid)
            with_groups = Path(f"/proc/{mine.info.backend_pid}/autogroup")
            if with_groups.exists():
                found["session"] = int(with_groups.read_text().split()[-1])

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    if not found:
        pytest.skip("the database is not on this machine")
    return found


def test_the_thread_and_its_server_process_are_nice(seen: dict[str, int]) -> None:
    assert seen["thread"] == seen["server"] == NICE
    assert seen.get("session", NICE) == NICE


def test_nobody_else_is(seen: dict[str, int]) -> None:
    assert seen["other"] < NICE
    assert nice(os.getpid()) == nice(threading.get_native_id()) < NICE


def test_a_process_that_is_not_the_postmasters_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another container, where the server's number is somebody else's here."""
    with psycopg.connect(database.app) as connection:
        monkeypatch.setattr(background, "_parent", lambda _: 1)
        assert background._server_process(connection) is None
        monkeypatch.setattr(background, "_parent", lambda _: None)
        assert background._server_process(connection) is None

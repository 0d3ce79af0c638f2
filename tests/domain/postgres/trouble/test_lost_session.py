"""A program that may wait as long as it takes does not wait for a session that is gone."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

import psycopg
import pytest

from domain.postgres.connection import Bounded, open_connection
from domain.postgres.trouble import lost_session
from domain.postgres.trouble.lost_session import of_program
from tests.faults.own_server import OwnServer, own_server, postmaster_pid, process_tree, send
from tests.faults.standby import cluster

LATE_S: Final = 0.3
WITHIN_S: Final = 10.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LATE_S", "_ASKED_EVERY_S"):
        monkeypatch.setattr(lost_session, name, LATE_S)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server(is_durable=False) as server:
        yield server


class Asking(threading.Thread):
    """Asks something that takes a while, and keeps what comes of it."""

    def __init__(self, connection: Bounded, *, takes_s: float) -> None:
        super().__init__(daemon=True)
        self._connection, self._takes_s = connection, takes_s
        self.answer: object = None
        self.start()

    def run(self) -> None:
        try:
            asked = self._connection.execute("SELECT 'x' FROM pg_sleep(%s)", [self._takes_s])
            self.answer = asked.fetchone()
        except psycopg.Error as error:
            self.answer = error


@pytest.mark.long
def test_it_ends_once_another_server_has_taken_over_from_one_that_hangs() -> None:
    with cluster() as pair, open_connection(pair.database.app) as connection:
        asking = Asking(connection, takes_s=600)
        time.sleep(2 * LATE_S)
        assert asking.is_alive()
        hanging = process_tree(postmaster_pid(pair.primary.embedded.base_dir))
        send(hanging, signal.SIGSTOP)
        try:
            pair.promote()
            asking.join(WITHIN_S)
            assert isinstance(asking.answer, psycopg.OperationalError)
            assert connection.broken
        finally:
            pair.kill_primary()  # else this very test waits


def test_a_session_that_is_there_may_take_its_time(own: OwnServer) -> None:
    with open_connection(own.database.app) as connection:
        asking = Asking(connection, takes_s=5 * LATE_S)
        asking.join(WITHIN_S)
        assert asking.answer == ("x",)


def test_a_server_that_hangs_alone_is_waited_for(own: OwnServer) -> None:
    """Nobody knows better, and it may go on."""
    with open_connection(own.database.app) as connection:
        asking = Asking(connection, takes_s=LATE_S)
        with own.stopped():
            time.sleep(4 * LATE_S)
            assert asking.is_alive()
        asking.join(WITHIN_S)
        assert asking.answer == ("x",)


@pytest.mark.parametrize(
    ("told", "answers"),
    [
        ((True, False, False), [True, False, False]),
        ((True, None, False), [True, None, False]),
        ((False, None, False), [None, None, None]),
        ((False, True, False), [None, True, False]),
    ],
)
def test_a_program_is_missed_once_it_was_seen(
    told: tuple[bool | None, ...], answers: list[bool | None]
) -> None:
    is_at_work = of_program(iter(told).__next__)
    assert [is_at_work() for _ in told] == answers

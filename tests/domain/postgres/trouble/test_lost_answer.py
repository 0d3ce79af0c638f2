"""Something between us keeps the connection, and has lost what the server said."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.postgres.connection import open_connection
from domain.postgres.session import COMMAND, MIGRATING, REBUILDING, Session
from domain.postgres.trouble import lost_session
from domain.postgres.trouble.lost_session import AnswerLost
from domain.postgres.trouble.unusable_reasons import is_lost, reason
from tests.conftest import Database
from tests.faults.proxy import Fault, Proxy, ProxyThread, proxy_thread
from tests.turns import by_turns

LONG_S: Final = 1.2
"""Many looks."""
LOCK: Final = 4711


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_session, "_LATE_S", 0.1)
    monkeypatch.setattr(lost_session, "_ASKED_EVERY_S", 0.2)


@pytest.fixture
def proxy(database: Database) -> Iterator[ProxyThread]:
    with proxy_thread(database.app) as thread:
        yield thread
        thread.tell(Proxy.forget)


@contextmanager
def neighbours(conninfo: str, count: int = 3) -> Iterator[None]:
    """Sessions of the same role that are nearly always at work, but none all the time."""
    stopping = threading.Event()

    def work() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while not stopping.wait(0.02):
                connection.execute("SELECT pg_sleep(0.05)")

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("fault", [Fault.SWALLOWED, Fault.STUCK])
@pytest.mark.parametrize("session", by_turns([COMMAND, MIGRATING, REBUILDING], one_of=3))
def test_who_waits_for_an_answer_that_is_lost_is_told(
    proxy: ProxyThread, session: Session, fault: Fault
) -> None:
    with open_connection(proxy.conninfo, session=session) as connection:
        proxy.tell(lambda each: each.strike(fault, "pg_sleep"))
        with pytest.raises(AnswerLost) as lost:
            connection.execute("SELECT pg_sleep(0.3)")
        assert connection.closed
    assert is_lost(lost.value)
    assert "its answer did not arrive" in reason(lost.value)


def test_also_where_its_session_has_ended(database: Database, proxy: ProxyThread) -> None:
    with open_connection(proxy.conninfo) as connection:
        proxy.tell(lambda each: each.strike(Fault.SWALLOWED, "pg_sleep"))
        ends = threading.Timer(1.0, ended, [database.owner])
        ends.start()
        with pytest.raises(AnswerLost):
            connection.execute("SELECT pg_sleep(60)")
        ends.join()


def ended(owner: str) -> None:
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep[(]60'"
        )


def test_also_in_a_transaction_and_beside_others_of_its_role(
    database: Database, proxy: ProxyThread
) -> None:
    with (
        neighbours(database.app),
        open_connection(proxy.conninfo, is_autocommit=False) as connection,
    ):
        proxy.tell(lambda each: each.strike(Fault.SWALLOWED, "1 AS lost"))
        with pytest.raises(AnswerLost):
            connection.execute("SELECT 1 AS lost")


def sleeps(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_sleep(%s)", [LONG_S])


def waits_for_a_lock(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])


def works_through_a_pipeline(connection: psycopg.Connection) -> None:
    with connection.pipeline():
        for _ in range(int(LONG_S / 0.01)):
            connection.execute("SELECT pg_sleep(0.01)")


def writes_slowly(connection: psycopg.Connection) -> None:
    """The server works after the last row."""
    connection.execute("CREATE TEMPORARY TABLE slow (said text CHECK (pg_sleep(0.01) IS NOT NULL))")
    with connection.cursor() as cursor, cursor.copy("COPY slow FROM STDIN") as copying:
        for _ in range(int(LONG_S / 0.01)):
            copying.write_row(["x"])


def reads_slowly(connection: psycopg.Connection) -> None:
    rows = f"SELECT pg_sleep(0.01) FROM generate_series(1, {int(LONG_S / 0.01)})"
    with connection.cursor() as cursor, cursor.copy(f"COPY ({rows}) TO STDOUT") as copying:
        assert len(list(copying)) == int(LONG_S / 0.01)


@pytest.mark.parametrize(
    "work",
    by_turns(
        [sleeps, waits_for_a_lock, works_through_a_pipeline, writes_slowly, reads_slowly], one_of=2
    ),
)
@pytest.mark.parametrize("options", ["", "-c track_activities=off"])
def test_who_waits_for_work_is_let_wait(
    database: Database, work: Callable[[psycopg.Connection], None], options: str
) -> None:
    """Also where the server does not tell what a session does."""
    began = time.monotonic()
    role = database.owner if options else database.app
    with psycopg.connect(database.owner, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        timer = threading.Timer(LONG_S, holder.execute, ["SELECT pg_advisory_unlock_all()"])
        timer.start()
        with open_connection(make_conninfo(role, options=options)) as connection:
            work(connection)
        assert time.monotonic() - began >= LONG_S
        timer.join()

"""What happens to another ledger on the same server is not told of this one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from api.doctor import locks, server
from api.doctor.finding import Status
from domain.eventstore import append
from domain.postgres.migrate import MigrationError, available, migrate
from domain.postgres.read_pool import ReadPool
from projections.figures.queries import FigureQueries
from tests.conftest import APP_ROLE, Database, Run, new_database
from tests.ready_cluster import own_copy
from tests.service import until

WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


@contextmanager
def in_trouble(ledger: Database) -> Iterator[None]:
    """Its tables are locked, and somebody waits for its append lock."""
    with (
        psycopg.connect(ledger.owner) as holder,
        psycopg.connect(ledger.owner) as waiter,
        psycopg.connect(ledger.owner, autocommit=True) as looks,
        ThreadPoolExecutor(1) as thread,
    ):
        holder.execute("LOCK TABLE ledger.stream_heads IN ACCESS EXCLUSIVE MODE")
        holder.execute(append.LOCK)
        waiting = thread.submit(waiter.execute, append.LOCK)
        pid = waiter.info.backend_pid
        until(lambda: bool(looks.execute(WAITS, [pid]).fetchone()), what="the wait")
        try:
            yield
        finally:
            holder.rollback()
            waiting.result()


def appends_waiting(ledger: Database, run: Run) -> int:
    async def ask() -> int:
        pool = ReadPool(ledger.app, size=1)
        try:
            return (await FigureQueries(pool).now()).lock_waiters
        finally:
            await pool.close()

    return run(ask())


def test_who_waits_and_who_holds_is_of_this_ledger(
    server: str, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of one database have the same numbers for their tables."""
    more = {**available(), 9999: "LOCK TABLE ledger.commands"}
    monkeypatch.setattr("domain.postgres.migrate.available", lambda: more)
    with new_database(server) as neighbour, in_trouble(neighbour):
        assert (appends_waiting(neighbour, run), appends_waiting(database, run)) == (1, 0)
        with psycopg.connect(database.owner) as here:
            assert {each.status for each in locks.appends(here)} == {Status.OK}
        with psycopg.connect(database.owner) as dump:
            dump.execute("SELECT FROM ledger.commands")
            with pytest.raises(MigrationError) as told:
                migrate(database.owner, app_role=APP_ROLE)
    assert "ledger.commands" in str(told.value)
    assert "stream_heads" not in str(told.value)


def test_the_connections_of_another_ledger_are_others() -> None:
    with own_copy("neighbours") as made, ExitStack() as stack:
        made.start()
        ours, theirs = (
            made.conninfo(user="postgres", dbname=name) for name in ("postgres", "template1")
        )
        here = stack.enter_context(psycopg.connect(ours, autocommit=True))
        before = server.room_for_connections(here, workers=1).found
        for conninfo, changes in ((ours, False), (theirs, True)):
            stack.enter_context(psycopg.connect(conninfo, application_name="scim-ledger"))
            after = server.room_for_connections(here, workers=1).found
            assert (after != before) == changes

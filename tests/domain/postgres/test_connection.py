"""Connections to PostgreSQL: what they are told about how long to wait, that none is left open,
and which one appends have.
"""

import asyncio
import os
import socket
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq import ExecStatus, PGconn, PollingStatus
from structlog.testing import capture_logs

from domain.errors import StoreReadOnly, StoreUnavailable
from domain.postgres.cancellable_connection import shut_down
from domain.postgres.connection import OUT_OF_REACH, answered_within, connect, open_connection
from domain.postgres.kept_connection import KeptConnection
from domain.postgres.primary import Primary
from domain.postgres.read_pool import ReadPool
from domain.postgres.session import FOLLOWING, MIGRATING, READING, SERVING, Session, stated
from domain.postgres.trouble.unusable_reasons import reason
from tests.conftest import APP_ROLE, Database, Run
from tests.faults.proxy import Fault, Proxy, open_proxy, proxy_thread
from tests.service import until
from tests.stopwatch import Stopwatch

LOADED_S: Final = 1.0
"""What a busy machine adds."""

SET = "SELECT set_config(name, %(ms)s, false) FROM pg_settings WHERE name = ANY(%(names)s)"
"""Of those that this server has: transaction_timeout is new in PostgreSQL 17."""

OTHERS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid()
"""


def silence_limits(conninfo: str) -> tuple[int, int, int, int]:
    """What libpq tells the socket of a connection, which sends keep-alives: seconds before the
    first and between two of them, their count, and milliseconds that what is sent may wait.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = make_conninfo(
            conninfo, host="127.0.0.1", port=listener.getsockname()[1], sslmode="disable"
        )
        connection = PGconn.connect_start(there.encode())
        while (status := connection.connect_poll()) == PollingStatus.WRITING:
            pass
        assert status == PollingStatus.READING
        with socket.socket(fileno=os.dup(connection.socket)) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle_s, interval_s, count, unsent_ms = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )
        connection.finish()
    return idle_s, interval_s, count, unsent_ms


@pytest.mark.skipif(sys.platform != "linux", reason="the options have other names elsewhere")
def test_a_server_whose_machine_is_gone_is_noticed_within_eight_seconds() -> None:
    idle_s, interval_s, count, unsent_ms = silence_limits(stated(""))
    assert idle_s + interval_s * count <= 8
    assert unsent_ms <= 8000


@pytest.mark.parametrize(
    "limit",
    [
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "statement_timeout",
        "lock_timeout",
    ],
)
def test_a_read_that_the_server_gives_up_on_finds_the_store_unavailable(
    database: Database, run: Run, limit: str
) -> None:
    """Ours end first, but for a process that did not get a processor in time."""

    async def read(pool: ReadPool, *, meanwhile: AsyncConnection[Any]) -> None:
        async with pool.connection() as reader:
            # it hides the others
            await reader.execute(SET, {"names": ["transaction_timeout"], "ms": "0"})
            await reader.execute(SET, {"names": [limit], "ms": "50"})
            if limit == "idle_in_transaction_session_timeout":
                await reader.execute("BEGIN")
                await meanwhile.execute("SELECT pg_sleep(0.2)")
            await reader.execute("SELECT pg_advisory_xact_lock(1)")

    async def main() -> None:
        pool = ReadPool(database.app)
        async with pool.connection() as holder:
            await holder.execute("BEGIN; SELECT pg_advisory_xact_lock(1)")
            with pytest.raises(StoreUnavailable):
                await read(pool, meanwhile=holder)
            await holder.execute("ROLLBACK")
        async with pool.connection() as reader:
            await reader.execute("SELECT pg_advisory_xact_lock(1)")
        await pool.close()

    run(main())


@pytest.mark.parametrize(
    ("statement", "error"),
    [("SELECT pg_sleep(60)", asyncio.CancelledError), ("SELECT 1 / 0", StoreUnavailable)],
)
def test_a_connection_that_never_got_its_settings_is_closed(
    database: Database, run: Run, statement: str, error: type[BaseException]
) -> None:
    """Whatever the reason: a caller who no longer waits,
    or settings that the server does not take.
    """

    session = Session(more={"search_path": f"pg_catalog; {statement}"})

    async def main() -> None:
        async with await AsyncConnection.connect(database.owner, autocommit=True) as owner:
            connecting = asyncio.create_task(connect(database.app, session=session, timeout_s=60))
            if error is asyncio.CancelledError:
                await _others(owner, 1)
                connecting.cancel()
            with pytest.raises(error) as failed:
                await connecting
            await _others(owner, 0)
            assert failed.tb is not None  # it would have kept the connection from being collected

    run(main())


def test_a_connection_of_a_program_that_never_got_its_settings_is_closed(
    database: Database, run: Run
) -> None:
    session = Session(more={"search_path": "pg_catalog; SELECT 1 / 0"})

    async def main() -> None:
        async with await AsyncConnection.connect(database.owner, autocommit=True) as owner:
            with pytest.raises(StoreUnavailable) as failed:
                open_connection(database.app, session=session)
            await _others(owner, 0)
            assert failed.tb is not None  # it would have kept the connection from being collected

    run(main())


async def _others(owner: AsyncConnection[Any], expected: int) -> None:
    """Until the database has so many other sessions."""
    async with asyncio.timeout(10):
        while (await (await owner.execute(OTHERS)).fetchone()) != (expected,):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("session", [SERVING, FOLLOWING, MIGRATING, READING])
def test_a_connection_breaks_where_its_server_owes_an_answer_for_longer_than_it_works_on_one(
    database: Database, session: Session
) -> None:
    """Somebody between us holds it, and has lost what is behind it; a command may take its time."""
    quick = replace(session, statement_ms=session.statement_ms and 100)
    with proxy_thread(database.app) as proxy:
        with open_connection(proxy.conninfo, session=quick) as connection:
            connection.execute("SELECT 1")
            proxy.tell(Proxy.black_hole)
            if quick.answer_within_s is None:
                assert session is MIGRATING
                with answered_within(connection, 0.1), pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
            else:
                watch = Stopwatch()
                with pytest.raises(psycopg.OperationalError) as broken:
                    connection.execute("SELECT 1")
                assert "did not answer in time" in reason(broken.value)
                assert 0.1 < watch.read_s() < quick.answer_within_s + LOADED_S
            assert connection.broken
        with open_connection(proxy.conninfo, session=quick) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_an_answer_that_the_server_works_on_is_waited_for(database: Database) -> None:
    with open_connection(database.app, session=replace(SERVING, statement_ms=300)) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        before = connection.answer_within_s
        with answered_within(connection, 60):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.answer_within_s == before
        assert not connection.closed


def test_an_internal_error_of_the_server_is_told_as_it_is(database: Database) -> None:
    """The connection is as good as before: it is the library's own that ends one."""
    with open_connection(database.app, session=SERVING) as connection:
        with pytest.raises(psycopg.errors.InternalError_, match="an index is broken"):
            connection.execute(
                "DO $$BEGIN RAISE 'an index is broken' USING ERRCODE = 'XX000'; END$$"
            )
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_no_two_connections_call_a_statement_alike(database: Database) -> None:
    """A pooler in another mode gives one of them the session of the other."""
    found = set()
    for _ in range(2):
        with open_connection(database.app, session=SERVING) as connection:
            connection.execute("SELECT 1", prepare=True)
            found |= {
                name for (name,) in connection.execute("SELECT name FROM pg_prepared_statements")
            }
    assert len(found) == 2


def test_more_than_was_asked_for_ends_the_connection_as_any_loss_of_it(database: Database) -> None:
    """As a farewell that stands behind an answer: the library takes it for its own mistake."""
    with open_connection(database.app, session=SERVING) as connection:
        with pytest.raises(OUT_OF_REACH) as lost:
            connection.wait(connection._exec_command(b"BEGIN; SELECT 1"))
        assert reason(lost.value).startswith("the database closed the connection")
        assert connection.broken


def test_a_connection_for_appends_is_left_once_when_its_server_is(
    database: Database, run: Run
) -> None:
    """And kept from then on: a use that connects anew costs several round trips."""

    async def story() -> None:
        primary = Primary(database.app)
        kept = KeptConnection(primary)
        first = await kept.get()
        assert await kept.get() is first
        primary.leave()
        second = await kept.get()
        assert second is not first
        assert first.closed
        assert await kept.get() is second
        shut_down(second)  # without a word
        third = await kept.get()
        assert third is not second
        await third.execute("SELECT 1")
        await kept.drop()
        assert third.closed

    run(story())


def test_a_server_that_refuses_a_write_is_left_by_every_connection(
    database: Database, run: Run
) -> None:
    """A read from it would find neither the tokens of today nor what was revoked."""

    async def story() -> None:
        primary = Primary(database.app)
        appends, others = KeptConnection(primary), KeptConnection(primary)
        await appends.get()
        before = await others.get()
        await appends.drop(psycopg.errors.ReadOnlySqlTransaction())
        after = await others.get()
        assert (before.closed, after.closed) == (True, False)
        await others.drop()

    run(story())


def test_writes_that_stop_and_come_back_are_told_once_each(database: Database, run: Run) -> None:
    """And whoever finds that they have stopped leaves the server for all."""
    switch = "ALTER ROLE CURRENT_USER IN DATABASE {} SET default_transaction_read_only = {}"

    async def story() -> None:
        primary = Primary(database.app)
        kept = KeptConnection(primary)
        with psycopg.connect(database.app, autocommit=True) as app:
            before = await kept.get()
            app.execute(switch.format(app.info.dbname, "on").encode())
            for _ in range(2):
                with pytest.raises(StoreReadOnly):
                    await primary.connect(SERVING)
            app.execute(switch.format(app.info.dbname, "off").encode())
            for _ in range(2):
                assert await kept.get() is not before
        await kept.drop()

    with capture_logs() as logged:
        run(story())
    assert [each["event"] for each in logged] == [
        "store.takes_no_writes",
        "store.takes_writes_again",
    ]


class Notice(NamedTuple):
    """What psycopg tells of what a server says."""

    severity_nonlocalized: str
    sqlstate: str
    source_function: str


IN_DOUBT: Final = Notice("WARNING", "01000", "SyncRepWaitForLSN")


@pytest.mark.parametrize(
    ("said", "is_in_doubt"),
    [
        ([], False),
        ([IN_DOUBT], True),
        ([IN_DOUBT._replace(sqlstate="57P01")], True),
        ([IN_DOUBT._replace(source_function="of_a_later_release")], True),
        ([IN_DOUBT._replace(severity_nonlocalized="NOTICE")], False),
        ([IN_DOUBT._replace(sqlstate="01004")], False),
        ([IN_DOUBT._replace(source_function="exec_stmt_raise")], False),
        ([IN_DOUBT, IN_DOUBT._replace(severity_nonlocalized="NOTICE")], True),
    ],
)
def test_a_commit_is_in_doubt_whatever_is_said_besides(
    database: Database, run: Run, said: list[Notice], is_in_doubt: bool
) -> None:
    async def story() -> None:
        kept = KeptConnection(Primary(database.app))
        connection = await kept.get()
        for notice in said:
            for handle in connection._notice_handlers:
                handle(cast("Diagnostic", notice))
        with pytest.raises(StoreUnavailable) if is_in_doubt else nullcontext():
            kept.confirm()
        await kept.get()
        kept.confirm()
        await kept.drop()

    run(story())


@pytest.mark.parametrize(
    ("fault", "told"),
    [(Fault.STUCK, "did not answer in time"), (Fault.NEVER_SENT, "closed the connection")],
)
def test_a_database_that_answers_late_is_not_told_to_have_hung_up(
    database: Database, run: Run, fault: Fault, told: str
) -> None:
    """And one that hangs up is not told to be late."""
    timeout_s = 0.5 if fault is Fault.STUCK else 60

    async def main() -> None:
        async with open_proxy(database.app) as proxy:
            proxy.strike(fault, "SET")
            with pytest.raises(StoreUnavailable, match=told):
                await connect(proxy.conninfo, timeout_s=timeout_s)
            proxy.cut()

    run(main())


@pytest.fixture
def kept(database: Database) -> KeptConnection:
    return KeptConnection(Primary(database.app))


def count(database: Database) -> int:
    """Connections of the service to this database."""
    with psycopg.connect(database.owner) as owner:
        return len(
            owner.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = %s",
                [APP_ROLE],
            ).fetchall()
        )


def test_a_connection_for_appends_that_is_made_beforehand_is_used(
    kept: KeptConnection, run: Run
) -> None:
    async def main() -> None:
        await kept.open()
        connection = await kept.get()
        await kept.open()
        assert await kept.get() is connection
        await kept.drop()

    run(main())


def test_of_several_that_are_made_at_once_one_stays(
    database: Database, kept: KeptConnection, run: Run
) -> None:
    async def main() -> None:
        for _ in range(5):
            *_, connection = await asyncio.gather(kept.open(), kept.open(), kept.get())
            assert await kept.get() is connection
            until(lambda: count(database) == 1, what="one connection")
            await kept.drop()

    run(main())


@pytest.mark.parametrize("is_cut_here", [True, False])
def test_a_dead_one_is_made_anew_beforehand(
    database: Database, kept: KeptConnection, run: Run, *, is_cut_here: bool
) -> None:
    """Whether a call of ours was cut off on it, or its server ended it."""

    async def main() -> None:
        before = await kept.get()
        if is_cut_here:
            await before.close()
        else:
            with psycopg.connect(database.owner) as owner:
                owner.execute("SELECT pg_terminate_backend(%s)", [before.info.backend_pid])
        until(lambda: not before.is_alive(), what="the farewell")
        await kept.open()
        assert count(database) == 1
        assert (await kept.get()).is_alive()
        await kept.drop()

    run(main())


def test_one_that_is_in_use_is_let_alone(
    database: Database, kept: KeptConnection, run: Run
) -> None:
    """The answer that stands in its socket is no farewell."""

    async def main() -> None:
        connection = await kept.get()
        asked = asyncio.create_task(connection.execute("SELECT pg_sleep(0.2)"))
        while not asked.done():
            await kept.open()
            await asyncio.sleep(0)
        await asked
        assert count(database) == 1
        assert await kept.get() is connection
        await kept.drop()

    run(main())


def test_who_no_longer_waits_leaves_a_closed_connection(database: Database, run: Run) -> None:
    """What the server goes on to say would be heard as the answer to the next call."""

    async def main() -> None:
        connection = await connect(database.app)
        asking = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        active = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        async with await AsyncConnection.connect(database.owner, autocommit=True) as owner:
            while (await (await owner.execute(active)).fetchone()) == (0,):
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert connection.closed

    run(main())


def test_a_refusal_is_of_the_call_that_was_refused_alone(database: Database, run: Run) -> None:
    """Not of the next one, which nobody knows the fate of when its connection breaks."""

    async def main() -> None:
        connection = await connect(database.app)
        connection.pgconn.send_query(b"SELECT 1 / 0")
        assert (await connection.answer()).status == ExecStatus.FATAL_ERROR
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        asyncio.get_running_loop().call_later(0.05, shut_down, connection)
        with pytest.raises(psycopg.OperationalError):
            await connection.answer()
        await connection.close()

    run(main())

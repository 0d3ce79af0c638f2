"""A statement through libpq itself: what its waiting leaves to others, and behind when the
connection dies.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, Final, TypeAlias

import psycopg
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import ConnStatus

from domain.postgres.cancellable_connection import Cancellable, cut_after
from domain.postgres.prepared_statement import NotExecuted, PreparedReads, PreparedStatement
from tests.conftest import Database, Run
from tests.faults.resetting_relay import resetting_relay
from tests.service import until

NewLoop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
INT4: Final = 23


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The fixture of all tests, on both kinds of loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@asynccontextmanager
async def connected(
    database: Database, kind: type[Cancellable] = Cancellable
) -> AsyncIterator[Cancellable]:
    connection = await kind.connect(database.app, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


async def require_heard(number: int) -> None:
    """The next sockets that are opened, of which one has this number, are heard by who listens."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        assert number in {here.fileno(), there.fileno()}
        watched, writer = (here, there) if here.fileno() == number else (there, here)
        is_heard = asyncio.Event()
        loop.add_reader(watched, is_heard.set)
        await asyncio.sleep(0.01)  # who was asking learns that the connection is dead
        writer.send(b"hello")
        async with asyncio.timeout(5):
            await is_heard.wait()
        loop.remove_reader(watched)


def test_a_dead_connection_leaves_its_number_to_the_next_socket(
    database: Database, run: Run
) -> None:
    """libpq closes a dead socket at once; a client who comes in the same turn
    of the loop gets its number.
    """

    async def main() -> None:
        async with connected(database) as connection:
            number = connection.fileno()
            asking = asyncio.ensure_future(
                PreparedStatement(connection, "sleeps", "SELECT pg_sleep(60)")([])
            )
            await asyncio.sleep(0)
            with socket.socket(fileno=os.dup(number)) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
            while connection.pgconn.status != ConnStatus.BAD:
                await asyncio.sleep(0)
            await require_heard(number)
            with pytest.raises(psycopg.OperationalError):
                await asking

    run(main())


def test_a_connection_that_is_closed_leaves_its_number_to_the_next_socket(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with connected(database) as connection:
            number = connection.fileno()
            await PreparedStatement(connection, "one", "SELECT 1")([])
            await connection.close()
            await require_heard(number)

    run(main())


def test_between_two_calls_the_connection_is_the_librarys_or_another_statements(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with connected(database) as connection, asyncio.timeout(10):
            statement = PreparedStatement(connection, "thing", "SELECT $1::text")
            other = PreparedStatement(connection, "other", "SELECT 'other'")
            for number in range(3):
                result = await statement([b"thing %d" % number])
                assert result.get_value(0, 0) == b"thing %d" % number
                if number:
                    cursor = await connection.execute("SELECT %s::int", [number])
                    assert await cursor.fetchone() == (number,)
            for _ in range(2):
                assert (await other([])).get_value(0, 0) == b"other"
                assert (await statement([b"thing"])).get_value(0, 0) == b"thing"

    run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@given(kept=st.integers(0, 40_000), length=st.sampled_from([1, 3_000, 30_000]))
@settings(max_examples=40)
def test_an_answer_that_is_cut_off_anywhere_by_a_reset_ends_the_wait(
    server: str, new_loop: NewLoop, kept: int, length: int
) -> None:
    """Also where all of it has come before the loop looks: uvloop tells of it once."""

    async def main() -> None:
        with resetting_relay(server) as relay:
            connection = await Cancellable.connect(relay.conninfo, autocommit=True)
            statement = PreparedStatement(connection, "long", "SELECT repeat('x', $1)", [INT4])
            whole = await statement([length.to_bytes(4)])
            relay.kept = kept
            asking = asyncio.ensure_future(statement([length.to_bytes(4)]))
            await asyncio.sleep(0)
            assert relay.has_reset.wait(10), "the loop stood still until then"
            async with connection, asyncio.timeout(5):
                (told,) = await asyncio.gather(asking, return_exceptions=True)
            if kept > length and not isinstance(told, BaseException):
                assert told.get_value(0, 0) == whole.get_value(0, 0)
            else:
                assert isinstance(told, psycopg.OperationalError)
                assert not isinstance(told, NotExecuted), "it was carried out"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_a_farewell_that_comes_with_a_reset_is_heard(database: Database, run: Run) -> None:
    """The server is stopped in order while a question is under way to it."""

    async def main() -> None:
        async with connected(database) as connection, asyncio.timeout(10):
            statement = PreparedStatement(connection, "one", "SELECT 1")
            await statement([])
            pid = connection.info.backend_pid
            os.kill(pid, signal.SIGSTOP)
            asking = asyncio.ensure_future(statement([]))
            await asyncio.sleep(0)
            with psycopg.connect(database.owner, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
                os.kill(pid, signal.SIGCONT)
                gone = "SELECT FROM pg_stat_activity WHERE pid = %s"
                until(lambda: other.execute(gone, [pid]).rowcount == 0, what="its end")
            with pytest.raises(NotExecuted, match="administrator command"):
                await asking

    run(main())


def test_a_wait_that_is_cut_ends_whatever_the_loop_hears(database: Database, run: Run) -> None:
    async def main() -> None:
        async with connected(database) as connection, asyncio.timeout(10):
            sleeps = PreparedStatement(connection, "sleeps", "SELECT pg_sleep(60)")
            asking = asyncio.ensure_future(sleeps([]))
            await asyncio.sleep(0.1)
            asyncio.get_running_loop().remove_reader(connection.fileno())
            with cut_after(connection, 0.1), pytest.raises(psycopg.OperationalError):
                await asking

    run(main())


class Counting(Cancellable):
    """heard: how often it was called because its socket is readable."""

    heard = 0

    def _read(self) -> None:
        self.heard += 1
        super()._read()


def test_who_was_sent_away_between_two_calls_is_not_alive_and_costs_nothing(
    database: Database, run: Run
) -> None:
    """The socket stays readable: who went on listening would be called in every turn."""

    async def main() -> None:
        async with connected(database, Counting) as connection:
            assert isinstance(connection, Counting)
            await PreparedStatement(connection, "one", "SELECT 1")([])
            assert connection.is_alive()
            with psycopg.connect(database.owner, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            while connection.is_alive():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            heard = connection.heard
            await asyncio.sleep(0.05)
            assert connection.heard == heard

    run(main())


values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.binary(),
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
    st.lists(st.uuids()),
    st.lists(st.integers(-(2**31), 2**31 - 1)),
    st.lists(st.binary()),
)


@settings(max_examples=50)
@given(asked=st.lists(st.lists(values, min_size=2, max_size=2), min_size=1, max_size=5))
def test_a_read_takes_and_gives_values_as_the_library_does(
    server: str, asked: list[list[Any]]
) -> None:
    """Whatever types the same statement was prepared for before."""

    async def main() -> None:
        async with await Cancellable.connect(server, autocommit=True) as connection:
            reads = PreparedReads(connection)
            for one, two in asked:
                for statement, given_ in (
                    ("SELECT %s, %s, 'a' || '%%'", [one, two]),
                    ("SELECT %(a)s, %(b)s, %(a)s, 7 %% 4", {"a": one, "b": two}),
                ):
                    cursor = connection.cursor(binary=True)
                    await cursor.execute(statement, given_)
                    assert await reads.rows(statement, given_) == await cursor.fetchall()

    asyncio.run(main())


def test_a_statement_that_could_not_be_prepared_is_prepared_when_it_can(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with connected(database) as connection:
            reads = PreparedReads(connection)
            for _ in range(2):
                with pytest.raises(psycopg.errors.UndefinedTable):
                    await reads.rows("SELECT * FROM views.not_there WHERE id = %s", [1])
            await connection.execute("CREATE TABLE views.not_there AS SELECT 1 AS id")
            assert await reads.rows("SELECT * FROM views.not_there WHERE id = %s", [1]) == [(1,)]
            await connection.execute("DROP TABLE views.not_there")

    run(main())


def test_parameters_that_no_socket_holds_at_once_are_sent_to_the_end(
    database: Database, run: Run
) -> None:
    """And one call after another: the first answer is not taken for the second."""

    async def main() -> None:
        async with connected(database) as connection, asyncio.timeout(10):
            statement = PreparedStatement(
                connection, "long", "SELECT octet_length($1::bytea)::int8"
            )
            for length in (16 << 20, 1, 3 << 20, 0):
                result = await statement([bytes(length)])
                assert int.from_bytes(result.get_value(0, 0) or b"") == length

    run(main())

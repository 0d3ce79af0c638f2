"""A statement through libpq itself: what its waiting leaves to others, and behind when the
connection dies.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

import psycopg
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import ConnStatus

from domain.postgres.cancellable_connection import Cancellable
from domain.postgres.prepared_statement import PreparedReads, PreparedStatement
from tests.conftest import Database, Run


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

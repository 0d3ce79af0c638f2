"""A statement through libpq itself: what its waiting leaves to others, and behind when the
connection dies.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import uvloop
from psycopg.pq import ConnStatus

from domain.postgres.cancellable_connection import Cancellable
from domain.postgres.connection import is_alive
from domain.postgres.prepared_statement import PreparedStatement
from tests.conftest import Database, Run


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The fixture of all tests, on both kinds of loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Cancellable]:
    connection = await Cancellable.connect(database.app, autocommit=True)
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


class Counting(PreparedStatement):
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
        async with connected(database) as connection:
            statement = Counting(connection, "one", "SELECT 1")
            await statement([])
            assert is_alive(connection)
            with psycopg.connect(database.owner, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            while is_alive(connection):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            heard = statement.heard
            await asyncio.sleep(0.05)
            assert statement.heard == heard

    run(main())

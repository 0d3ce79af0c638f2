"""A statement through libpq itself: what its waiting leaves behind when the connection dies."""

import asyncio
import os
import socket
from collections.abc import Callable

import psycopg
import pytest
import uvloop
from psycopg.pq import ConnStatus

from domain.postgres.prepared_statement import PreparedStatement
from tests.conftest import Database


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_dead_connection_leaves_its_number_to_the_next_socket(
    database: Database, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """libpq closes a dead socket at once; a client who comes in the same turn
    of the loop gets its number.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connection = await psycopg.AsyncConnection.connect(database.app, autocommit=True)
        number = connection.fileno()
        asking = asyncio.ensure_future(
            PreparedStatement(connection, "sleeps", "SELECT pg_sleep(60)")([])
        )
        await asyncio.sleep(0)
        with socket.socket(fileno=os.dup(number)) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
        while connection.pgconn.status != ConnStatus.BAD:
            await asyncio.sleep(0)
        here, there = socket.socketpair()
        with here, there:
            assert number in {here.fileno(), there.fileno()}
            watched, writer = (here, there) if here.fileno() == number else (there, here)
            is_heard = asyncio.Event()
            loop.add_reader(watched, is_heard.set)
            with pytest.raises(psycopg.OperationalError):
                await asking
            writer.send(b"hello")
            async with asyncio.timeout(5):
                await is_heard.wait()
            loop.remove_reader(watched)
        await connection.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())

"""A connection that was not made holds no descriptor, and one that broke nothing else: an outage of
an hour is 10,000 attempts.
"""

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.errors import StoreUnavailable
from domain.postgres.cancellable_connection import cut_after
from domain.postgres.connection import connect, open_connection
from domain.postgres.prepared_statement import PreparedStatement
from tests.api.left_behind.service import descriptors
from tests.conftest import Database
from tests.turns import by_turns

ATTEMPTS: Final = 10


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """The collector, which a service is spared, closes them in the end."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def by_command(conninfo: str) -> None:
    with pytest.raises(StoreUnavailable):
        open_connection(conninfo, timeout_s=1)


def by_worker(conninfo: str) -> None:
    async def story() -> None:
        with pytest.raises(StoreUnavailable):
            await connect(conninfo, timeout_s=0.1)

    asyncio.run(story())


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("attempt", [by_command, by_worker])
def test_a_refusal_leaves_nothing_open(database: Database, attempt: Callable[[str], None]) -> None:
    conninfo = make_conninfo(database.app, dbname="nothing_of_the_kind")
    attempt(conninfo)
    before = descriptors()
    gc.collect()
    for _ in range(ATTEMPTS):
        attempt(conninfo)
    assert descriptors() <= before
    assert gc.collect() < ATTEMPTS


@pytest.mark.usefixtures("_uncollected")
def test_an_answer_that_does_not_come_leaves_nothing(database: Database) -> None:
    async def story() -> int:
        for number in range(1 + ATTEMPTS):
            connection = await connect(database.app)
            sleeping = PreparedStatement(connection, "sleeping", "SELECT pg_sleep(60)")
            with cut_after(connection, 0.05), pytest.raises(psycopg.OperationalError):
                await sleeping([])
            await connection.close()
            if not number:
                gc.collect()
        return gc.collect()

    assert asyncio.run(story()) < ATTEMPTS


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize(
    ("attempt", "attempts"), by_turns([(by_worker, ATTEMPTS), (by_command, 2)], one_of=2)
)
def test_silence_leaves_nothing_open(attempt: Callable[[str], None], attempts: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        conninfo = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
        attempt(conninfo)
        before = descriptors()
        for _ in range(attempts):
            attempt(conninfo)
        assert descriptors() <= before

"""No record, no yes: the store fails in every way under load,
and each positive answer is in the ledger.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg
import pytest
import uvloop

from domain.eventstore.append import LOCK
from tests.conftest import Database, new_database
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.answers_before_commit import running_worker_with_the_bug
from tests.faults.own_server import OwnServer, own_server
from tests.faults.proxy import Fault, Proxy, ProxyThread, proxy_thread
from tests.faults.use_load import Load, Population, YesWithoutRecord, populate
from tests.faults.well import full_service_in_time
from tests.presenting import DOORS, FORWARD, NGINX, UNLIMITED, USE_ID_SEEN, VERIFY, Verdict
from tests.raw_http import run
from tests.service import running_service

pytestmark = pytest.mark.long

TOKENS: Final = 40
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass
class World:
    """A service, its own database server, the proxy between them,
    and a SCIM service behind it all.
    """

    url: str
    own: OwnServer
    proxy: ProxyThread
    population: Population
    upstream: socket.socket


@asynccontextmanager
async def stopped(world: World) -> AsyncIterator[None]:
    await asyncio.to_thread(world.own.server.stop)
    yield
    await asyncio.to_thread(world.own.server.start)


@asynccontextmanager
async def killed(world: World) -> AsyncIterator[None]:
    world.own.kill()
    yield
    await asyncio.to_thread(world.own.server.start)


@asynccontextmanager
async def hung(world: World) -> AsyncIterator[None]:
    with world.own.stopped():
        yield


@asynccontextmanager
async def append_lock_held(world: World) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(world.own.database.owner) as other:
        await other.execute(LOCK)
        yield


def cut_in_commits(proxy: Proxy) -> None:
    """Every third commit is lost with its connection,
    by turns before and after the server carried it out.
    """
    for statement in ("record_uses", "COMMIT"):
        for fault in [Fault.REPLY_LOST, Fault.NEVER_SENT] * 100:
            proxy.strike(fault, statement, skip=2)


@asynccontextmanager
async def cut_mid_commit(world: World) -> AsyncIterator[None]:
    world.proxy.tell(cut_in_commits)
    yield
    world.proxy.tell(Proxy.forget)


class Outage(NamedTuple):
    """What happens to the store, and for how many answers."""

    strike: Callable[[World], AbstractAsyncContextManager[None]]
    answers: int


OUTAGES: Final = (
    Outage(hung, 150),
    Outage(cut_mid_commit, 600),
    Outage(append_lock_held, 150),
    Outage(stopped, 500),
    Outage(killed, 500),
)
"""Those that let callers wait for the deadline take as long as the others with fewer answers."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        socket.create_server(("127.0.0.1", 0)) as upstream,
        own_server(is_durable=True) as own,  # or the kill itself would lose what was confirmed
        proxy_thread(own.database.app) as proxy,
    ):
        host, port = upstream.getsockname()
        environment = {"SCIM_LEDGER_SCIM_UPSTREAM_URL": f"http://{host}:{port}", **UNLIMITED}
        through = Database(owner=own.database.owner, app=proxy.conninfo)
        population = uvloop.run(populate(own.database, size=TOKENS))
        with running_service(through, environment=environment) as service:
            yield World(service.url, own, proxy, population, upstream)


@asynccontextmanager
async def scim_service(listener: socket.socket) -> AsyncIterator[None]:
    """Stands behind /scim/v2, and tells in each answer of which use it was told."""
    conversations: set[asyncio.StreamWriter] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(_END_OF_HEAD)
                lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
                use_id = next(value for name, _, value in lines if name.lower() == "x-scim-use-id")
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{USE_ID_SEEN}: "
                    f"{use_id}\r\n\r\n".encode()
                )
        conversations.discard(writer)
        writer.close()

    async with await asyncio.start_server(converse, sock=listener.dup()):
        try:
            yield
        finally:
            for writer in list(conversations):
                writer.close()


def endure(world: World, outages: Iterable[Outage], *, healthy_answers: int) -> Load:
    """Outages under load, each after so many answers of a healthy service;
    then the proof by use id.
    """
    load = Load(world.url, world.population, DOORS)

    async def main() -> None:
        async with scim_service(world.upstream), load.running():
            for strike, answers in outages:
                await load.answered(healthy_answers)
                async with strike(world):
                    await load.answered(answers)
                await full_service_in_time(world.url, world.population.api_token, DOORS)

    run(main)
    load.check(world.own.database)
    assert_consistent(world.own.database)
    return load


def test_each_yes_is_recorded_when_the_store_hangs_or_is_cut_off(world: World) -> None:
    load = endure(world, OUTAGES[:2], healthy_answers=300)
    assert all(load.answers[door.name, Verdict.YES] > 10 for door in DOORS), load.answers
    assert load.count(Verdict.UNAVAILABLE) > 50


@pytest.mark.slow
def test_each_yes_of_a_hundred_thousand_calls_is_recorded_whatever_happens_to_the_store(
    world: World,
) -> None:
    load = endure(world, OUTAGES * 4, healthy_answers=4400)
    assert load.calls >= 100_000
    assert all(load.answers[door.name, Verdict.YES] > 1000 for door in DOORS), load.answers
    assert load.count(Verdict.UNAVAILABLE) > 5000


def test_an_answer_before_the_commit_would_be_found(server: str) -> None:
    """Most of these commits happen: it takes the use ids to tell which yes has no record."""
    with new_database(server) as database, proxy_thread(database.app) as proxy:
        population = uvloop.run(populate(database, size=TOKENS))
        through = Database(owner=database.owner, app=proxy.conninfo)
        with running_worker_with_the_bug(through) as url:
            load = Load(url, population, (NGINX, FORWARD, VERIFY))

            async def main() -> None:
                async with load.running():
                    await load.answered(100)
                    proxy.tell(cut_in_commits)
                    await load.answered(500)

            run(main)
        with pytest.raises(YesWithoutRecord):
            load.check(database)

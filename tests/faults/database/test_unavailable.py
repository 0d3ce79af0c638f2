"""The store away, hung, slow or locked:
answers in time, no yes without a record, and back within 5 s.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import Unavailable
from domain.eventstore.append import LOCK
from domain.eventstore.uses import Decision
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.scim_token.token import ScimToken
from domain.secret import Secret
from tests.conftest import Database, Run, new_database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.database.test_lost_replies import (
    COMMAND_DEADLINE_S,
    COMMIT,
    LOADED_S,
    USE_DEADLINE_S,
    use_ids,
)
from tests.faults.own_server import OwnServer, own_server
from tests.faults.proxy import Fault, Proxy, ProxyThread, open_proxy, proxy_thread
from tests.service import RunningService, running_service, until
from tests.stopwatch import Stopwatch

T = TypeVar("T")
TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
BACK_WITHIN_S: Final = 5.0
Outage = Callable[[Proxy, Database], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def stopped(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    proxy.refuse()
    yield
    proxy.accept()


@asynccontextmanager
async def hung(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    proxy.hang()
    yield
    proxy.resume()


@asynccontextmanager
async def hung_and_never_coming_back(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    """A firewall that forgot every connection, and while it lasts swallows new ones too."""
    proxy.hang()
    yield
    proxy.black_hole()
    proxy.resume()


@asynccontextmanager
async def hung_after_the_greeting(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    """Connections are made, their first statement is never answered."""
    proxy.cut()
    proxy.strike(Fault.STUCK, "SET lock_timeout", times=1000)
    yield
    proxy.forget()


@asynccontextmanager
async def hung_in_the_commit(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    proxy.strike(Fault.STUCK, COMMIT, times=1000)
    proxy.strike(Fault.STUCK, "record_uses", times=1000)
    yield
    proxy.forget()


@asynccontextmanager
async def cut_in_each_commit(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    proxy.strike(Fault.REPLY_LOST, COMMIT, times=1000)
    proxy.strike(Fault.REPLY_LOST, "record_uses", times=1000)
    yield
    proxy.forget()


@asynccontextmanager
async def too_slow(proxy: Proxy, _: Database) -> AsyncIterator[None]:
    proxy.delay_s = 0.7
    yield
    proxy.delay_s = 0


@asynccontextmanager
async def append_lock_held(_: Proxy, database: Database) -> AsyncIterator[None]:
    with psycopg.connect(database.owner) as other:
        other.execute(LOCK)
        yield


@asynccontextmanager
async def table_locked(_: Proxy, database: Database) -> AsyncIterator[None]:
    with psycopg.connect(database.owner) as other:
        other.execute("LOCK TABLE ledger.stream_heads, ledger.commands IN ACCESS EXCLUSIVE MODE")
        yield


OUTAGES: Final = [
    stopped,
    cut_in_each_commit,
    append_lock_held,
    # As strict, and each waits for seconds; a server that hangs is in TestTheServerItself and
    # TestTheService.
    pytest.param(hung, marks=pytest.mark.slow),
    pytest.param(hung_in_the_commit, marks=pytest.mark.slow),
    pytest.param(hung_and_never_coming_back, marks=pytest.mark.slow),
    pytest.param(hung_after_the_greeting, marks=pytest.mark.slow),
    pytest.param(too_slow, marks=pytest.mark.slow),
    pytest.param(table_locked, marks=pytest.mark.slow),
]


async def create(ledger: TokenLedger) -> tuple[ScimToken, Secret]:
    return await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)


async def bounded(asks: Sequence[Coroutine[Any, Any, T]], deadline_s: float) -> list[T | None]:
    """The answers, each given in time or refused as unavailable in time."""

    async def one(ask: Coroutine[Any, Any, T]) -> T | None:
        watch = Stopwatch()
        try:
            return await ask
        except Unavailable:
            return None
        finally:
            assert watch.read_s() < deadline_s + LOADED_S

    return await asyncio.gather(*(one(ask) for ask in asks))


async def attempt_everything(ledger: TokenLedger, secret: Secret, token_id: UUID) -> list[Decision]:
    """Uses and commands together; the uses that were answered with yes."""
    commands: list[Coroutine[Any, Any, object]] = [
        *(create(ledger) for _ in range(3)),
        ledger.rotate_scim_token(token_id, by=ADA),
        ledger.api_tokens(),
        ledger.api_token_lookup.find([bytes(32)]),
    ]
    uses, _ = await asyncio.gather(
        bounded([ledger.authenticate(secret, IDP) for _ in range(10)], USE_DEADLINE_S),
        bounded(commands, COMMAND_DEADLINE_S),
    )
    return [use for use in uses if use is not None]


async def full_service_in_time(ledger: TokenLedger, secret: Secret) -> None:
    """Commands, uses and reads all succeed within 5 s from now."""
    watch = Stopwatch()
    while True:
        try:
            _, created = await create(ledger)
            await asyncio.gather(
                ledger.authenticate(created, IDP), ledger.authenticate(secret, IDP)
            )
            await ledger.api_tokens()
        except Unavailable:
            assert watch.read_s() < BACK_WITHIN_S + LOADED_S
        else:
            return


class TestTheLedger:
    """Outages that the proxy or another session makes."""

    @pytest.mark.parametrize("outage", OUTAGES)
    def test_every_answer_comes_in_time_and_a_yes_is_recorded(
        self, database: Database, run: Run, outage: Outage
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, secret = await create(ledger)
                await ledger.authenticate(secret, IDP)
                yes: list[Decision] = []
                async with outage(proxy, database):
                    for _ in range(2):
                        yes += await attempt_everything(ledger, secret, token.id)
                assert {use.use_id for use in yes} <= use_ids(database)
                await full_service_in_time(ledger, secret)

        run(main())
        assert_consistent(database)

    @pytest.mark.parametrize("outage", [stopped, hung, hung_after_the_greeting])
    def test_a_ledger_opened_during_the_outage_refuses_in_time_and_serves_afterwards(
        self, database: Database, run: Run, outage: Outage
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as before:
                token, secret = await create(before)
                async with outage(proxy, database):
                    watch = Stopwatch()
                    async with open_ledger(proxy.conninfo) as ledger:
                        assert watch.read_s() < LOADED_S
                        assert await attempt_everything(ledger, secret, token.id) == []
                async with open_ledger(proxy.conninfo) as ledger:
                    await full_service_in_time(ledger, secret)

        run(main())

    def test_an_abandoned_transaction_does_not_keep_the_append_lock(
        self, database: Database, run: Run
    ) -> None:
        """Its client is gone without a word, as after a power failure:
        the server itself must let go.
        """
        with psycopg.connect(database.owner) as connection:
            if connection.info.server_version < 170_000:
                pytest.skip("before PostgreSQL 17 only keep-alives tell it that a client is gone")

        async def main() -> None:
            async with (
                open_proxy(database.app) as proxy,
                open_ledger(proxy.conninfo) as lost,
                open_ledger(database.app) as other,
            ):
                _, secret = await create(lost)
                proxy.strike(Fault.STUCK, COMMIT, times=2)
                _, answers = await asyncio.gather(
                    bounded([create(lost)], COMMAND_DEADLINE_S),
                    bounded([create(other)], COMMAND_DEADLINE_S),
                )
                assert proxy.fired >= 1
                assert len(answers) == 1
                await full_service_in_time(other, secret)

        run(main())
        assert_consistent(database)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server(is_durable=True) as server:  # or the kill itself would lose what was confirmed
        yield server


class TestTheServerItself:
    """The same promises against real signals."""

    @pytest.mark.long
    def test_a_stopped_server_process_is_a_refusal_in_time(self, own: OwnServer, run: Run) -> None:
        async def main() -> None:
            async with open_ledger(own.database.app) as ledger:
                token, secret = await create(ledger)
                await ledger.authenticate(secret, IDP)
                with own.stopped():
                    for _ in range(2):
                        assert await attempt_everything(ledger, secret, token.id) == []
                await full_service_in_time(ledger, secret)

        run(main())
        assert_consistent(own.database)

    @pytest.mark.long
    def test_a_killed_server_is_a_refusal_in_time_and_its_return_is_full_service(
        self, own: OwnServer, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(own.database.app) as ledger:
                token, secret = await create(ledger)
                await ledger.authenticate(secret, IDP)
                own.kill()
                assert await attempt_everything(ledger, secret, token.id) == []
                own.server.start()
                await full_service_in_time(ledger, secret)

        run(main())
        assert_consistent(own.database)


class World:
    """A service whose only way to its database is a proxy."""

    def __init__(self, service: RunningService, proxy: ProxyThread) -> None:
        self.service, self.proxy = service, proxy
        self.admin = service.api_token()
        self.token = self.create().json()

    def create(self) -> httpx.Response:
        ask = {"team_id": str(TEAM), "name": "Okta"}
        return self.service.client.post("/scim-token", json=ask, auth=self.admin)

    def read(self) -> httpx.Response:
        return self.service.client.get(f"/scim-token/{self.token['id']}", auth=self.admin)

    def listed(self) -> httpx.Response:
        return self.service.client.get(
            "/scim-token", params={"team_id": str(TEAM)}, auth=self.admin
        )

    def revoke_missing(self) -> httpx.Response:
        return self.service.client.delete(f"/scim-token/{uuid4()}", auth=self.admin)

    def ready(self) -> httpx.Response:
        return self.service.client.get("/readyz")

    def use(self) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {self.token['token']}"}
        return self.service.client.get("/scim/v2/Schemas", headers=bearer)

    def is_well(self) -> bool:
        """Whether everything that a customer does works again."""
        asks = (
            (self.create, 201),
            (self.read, 200),
            (self.listed, 200),
            (self.ready, 200),
            (self.use, 200),
        )
        return all(ask().status_code == expected for ask, expected in asks)


@pytest.fixture(scope="module")
def world(server: str) -> Iterator[World]:
    with (
        new_database(server) as database,
        proxy_thread(database.app) as proxy,
        running_service(Database(owner=database.owner, app=proxy.conninfo)) as service,
    ):
        yield World(service, proxy)


@contextmanager
def outage_of(
    proxy: ProxyThread, begin: Callable[[Proxy], None], end: Callable[[Proxy], None]
) -> Iterator[None]:
    proxy.tell(begin)
    try:
        yield
    finally:
        proxy.tell(end)


def lost(proxy: Proxy) -> None:
    """What was connected before stays so, and is never answered."""
    proxy.black_hole()
    proxy.resume()


def timed(ask: Callable[[], httpx.Response], deadline_s: float) -> httpx.Response:
    watch = Stopwatch()
    answer = ask()
    assert watch.read_s() < deadline_s + LOADED_S, ask.__name__
    return answer


class TestTheService:
    """What callers over HTTP see: 503 and when to come back, never a 401."""

    @pytest.mark.parametrize(
        ("begin", "end"),
        [
            pytest.param(Proxy.refuse, Proxy.accept, id="stopped", marks=pytest.mark.slow),
            pytest.param(Proxy.hang, Proxy.resume, id="hung"),
            pytest.param(Proxy.hang, lost, id="lost"),
        ],
    )
    def test_everything_is_503_in_time_and_well_again_within_5_s(
        self, world: World, begin: Callable[[Proxy], None], end: Callable[[Proxy], None]
    ) -> None:
        assert world.is_well()
        with outage_of(world.proxy, begin, end):
            for _ in range(2):
                asks = (world.create, world.read, world.listed, world.revoke_missing)
                with ThreadPoolExecutor() as threads:
                    waiting = [
                        threads.submit(timed, ask, COMMAND_DEADLINE_S)
                        for ask in (*asks, world.ready)
                    ]
                    used = threads.submit(timed, world.use, USE_DEADLINE_S).result()
                    assert world.service.client.get("/healthz").status_code == 200
                *answers, ready = [answer.result() for answer in waiting]
                for ask, answer in zip(asks, answers, strict=True):
                    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), (
                        ask.__name__
                    )
                    assert answer.headers["Content-Type"] == "application/problem+json"
                    assert answer.json()["type"] == "/problems/unavailable"
                assert (used.status_code, used.headers["Retry-After"]) == (503, "1")
                assert used.headers["Content-Type"] == "application/scim+json"
                assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        until(world.is_well, timeout_s=BACK_WITHIN_S + LOADED_S, what="full service")

    @pytest.mark.long
    def test_a_worker_that_starts_during_the_outage_serves_afterwards(self, world: World) -> None:
        with outage_of(world.proxy, Proxy.refuse, Proxy.accept):
            before = world.service.program_pids()["worker-1"]
            kill(before)
            until(
                lambda: world.service.program_pids()["worker-1"] != before and is_answering(world),
                timeout_s=20,
                what="a new worker",
            )
            assert timed(world.use, USE_DEADLINE_S).status_code == 503
        until(world.is_well, timeout_s=BACK_WITHIN_S + LOADED_S, what="full service")

    @pytest.mark.slow
    def test_a_slow_database_does_not_add_up_beyond_the_deadline(self, world: World) -> None:
        """A request makes several calls to it, each in time: together they must be in time too."""

        def slow(proxy: Proxy) -> None:
            proxy.delay_s = 0.6

        def quick(proxy: Proxy) -> None:
            proxy.delay_s = 0

        world.admin = world.service.api_token()  # its first use is one more command
        with outage_of(world.proxy, slow, quick):
            for ask in (world.create, world.read, world.listed, world.ready):
                assert timed(ask, COMMAND_DEADLINE_S).status_code in {200, 201, 503}
            assert timed(world.use, USE_DEADLINE_S).status_code == 503
        until(world.is_well, timeout_s=BACK_WITHIN_S + LOADED_S, what="full service")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_answering(world: World) -> bool:
    try:
        return world.service.client.get("/healthz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False

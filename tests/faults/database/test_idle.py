"""C1, E13: whatever became of connections that nobody used,
the first to use them again is served.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.errors import StoreUnavailable
from domain.ledger import TokenLedger
from domain.postgres import kept_connection, read_pool
from domain.postgres.cancellable_connection import Cancellable
from domain.postgres.read_pool import Lease, ReadPool
from domain.scim_token.events import Presentation
from domain.secret import Secret
from tests.conftest import Database, Run, new_database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.own_server import OwnServer, own_server
from tests.faults.proxy import open_proxy
from tests.patience import patient
from tests.presenting import UNLIMITED
from tests.service import RunningService, running_service, until

__all__ = ["patient"]

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
OURS: Final = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'scim-ledger'
    ORDER BY pid
"""
READS: Final = 4
PAUSE_S: Final = 0.2
HOLDING: Final = "SELECT pg_sleep(0.01)"
"""A read that is long enough for others to take other connections."""


def kill(database: Database, seed: int | None = None, *, waits: bool = True) -> int:
    """End some of our sessions, all of them without a seed; how many.

    waits: until they have gone.
    """
    with psycopg.connect(database.owner, autocommit=True) as owner:
        pids = [pid for (pid,) in owner.execute(OURS)]
        chosen = [pid for pid in pids if seed is None or random.Random(seed + pid).random() < 0.7]
        for pid in chosen:
            owner.execute("SELECT pg_terminate_backend(%s)", [pid])
        if waits:
            until(
                lambda: not {pid for (pid,) in owner.execute(OURS)} & set(chosen), what="their end"
            )
    return len(chosen)


async def use_all(ledger: TokenLedger, secret: Secret, api_secret: Secret) -> None:
    """Each connection that a process keeps: of commands, of uses, and every one of the reads."""
    candidates = ledger.pepper.candidates(api_secret)
    await asyncio.gather(
        ledger.authenticate(secret, IDP),
        ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA),
        ledger.api_token_lookup.find(candidates),
        ledger.time(),
        ledger.api_tokens(),
        ledger.team_of(secret),
        *(ledger.reads.fetch(HOLDING) for _ in range(READS)),
    )


async def several(database: Database, after_each: Callable[[int], None], *, times: int) -> None:
    """Three processes; what happens to their connections while they idle must not be seen."""
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(open_ledger(database.app)) for _ in range(3)]
        _, secret = await ledgers[0].create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
        _, api_secret = await ledgers[0].create_api_token(
            NewApiToken(uuid4(), None, tuple(Permission), None)
        )
        for time_ in range(times):
            await asyncio.gather(*(use_all(ledger, secret, api_secret) for ledger in ledgers))
            after_each(time_)
        await asyncio.gather(*(use_all(ledger, secret, api_secret) for ledger in ledgers))


def test_the_first_use_of_every_connection_is_served_after_all_were_ended(
    database: Database, run: Run
) -> None:
    def after(_: int) -> None:
        assert kill(database) >= 3 * (2 + READS)

    run(several(database, after, times=3))
    assert_consistent(database)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_the_first_use_is_served_whichever_were_ended_and_when(
    database: Database, run: Run, seed: int
) -> None:
    """Also in the very moment: the farewell comes between the look at the
    socket and the statement.
    """
    chance = random.Random(seed)

    def after(time_: int) -> None:
        kill(database, chance.randrange(10_000), waits=bool(time_ % 3))
        time.sleep(chance.choice([0, 0, 0.0005, 0.002]))

    run(several(database, after, times=8))
    assert_consistent(database)


def assert_killed(database: Database) -> None:
    assert kill(database) > 0


def old_is_alive(connection: Cancellable) -> bool:
    """The planted bug: the farewell is read, and not the end behind it."""
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    return not connection.broken


@pytest.mark.long
def test_a_look_that_stops_at_the_farewell_is_seen(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(pool: ReadPool, statement: str, parameters: Any = ()) -> Any:
        lease = Lease(pool)
        async with lease:
            return await lease.pooled.statements.rows(statement, parameters)

    monkeypatch.setattr(Cancellable, "is_alive", old_is_alive)
    monkeypatch.setattr(ReadPool, "fetch", once)
    with pytest.raises(StoreUnavailable):
        run(several(database, lambda _: assert_killed(database), times=1))


def test_a_read_is_asked_once_more_where_the_look_was_not_enough(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an address moved to another machine: nothing is seen until something is sent."""
    monkeypatch.setattr(Cancellable, "is_alive", lambda _: True)

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            for _ in range(3):
                await asyncio.gather(*(ledger.reads.fetch(HOLDING) for _ in range(READS)))
                assert kill(database) == READS
            await asyncio.gather(*(ledger.time() for _ in range(READS)))

    run(main())


def test_a_use_is_recorded_once_where_the_look_was_not_enough(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's farewell is the answer: the statement was not executed,
    and is on a fresh connection.
    """
    monkeypatch.setattr(Cancellable, "is_alive", lambda _: True)

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            for _ in range(5):
                await ledger.authenticate(secret, IDP)
                assert kill(database) >= 1
            await ledger.authenticate(secret, IDP)
            assert ledger.replay(token.id).uses == 6

    run(main())
    assert_consistent(database)


def test_the_first_after_a_pause_is_served_though_nothing_is_answered_any_more(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler or a proxy holds every connection, and has lost what is behind it."""
    monkeypatch.setattr(read_pool, "IDLED_S", PAUSE_S)
    monkeypatch.setattr(kept_connection, "IDLED_S", PAUSE_S)
    monkeypatch.setattr(read_pool, "PLANS_KEPT_S", PAUSE_S)

    async def main() -> None:
        async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            _, api_secret = await ledger.create_api_token(
                NewApiToken(uuid4(), None, tuple(Permission), None)
            )
            await use_all(ledger, secret, api_secret)
            await asyncio.sleep(PAUSE_S)
            proxy.black_hole()
            await use_all(ledger, secret, api_secret)
            proxy.forget()
        async with open_ledger(database.app) as ledger:
            assert ledger.replay(token.id).uses == 2

    run(main())
    assert_consistent(database)


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    with (
        new_database(server) as database,
        running_service(database, workers=2, environment=UNLIMITED) as it,
    ):
        yield it


def everything(service: RunningService, calls: int = 12) -> list[str]:
    """What uses, reads and commands by many at once were refused with."""
    admin = service.api_token()
    token = service.client.post(
        "/scim-token", json={"team_id": str(TEAM), "name": "Okta"}, auth=admin
    ).json()

    def use(_: int) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {token['token']}"}
        return service.client.get("/gateway/nginx", headers=bearer)

    def read(_: int) -> httpx.Response:
        return service.client.get(f"/scim-token/{token['id']}", auth=admin)

    def create(_: int) -> httpx.Response:
        return service.client.post(
            "/scim-token", json={"team_id": str(TEAM), "name": "Okta"}, auth=admin
        )

    with ThreadPoolExecutor(calls) as threads:
        answers = [
            answer for ask in (use, read, create) for answer in threads.map(ask, range(calls))
        ]
    return [f"{answer.request.url} {answer.text}" for answer in answers if not answer.is_success]


@pytest.mark.long
def test_nobody_outside_sees_that_all_sessions_of_two_workers_were_ended(
    service: RunningService,
) -> None:
    for _ in range(3):
        assert everything(service) == []
        assert kill(service.database) > 0


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server(is_durable=True) as server:
        yield server


@pytest.mark.long
def test_a_restart_while_the_service_idles_is_not_seen(own: OwnServer, run: Run) -> None:
    def after(time_: int) -> None:
        if time_ % 2:
            own.kill()
        else:
            own.server.stop()
        own.server.start()

    run(several(own.database, after, times=2))
    assert_consistent(own.database)

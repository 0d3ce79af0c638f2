"""C2, C3: the service works with the server that takes writes, and says so where there is none."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import NotFound, StoreReadOnly, StoreUnavailable
from domain.postgres import read_pool
from domain.postgres.connection import connect, open_connection
from domain.scim_token.events import Presentation
from tests.api.cli.test_commands import run
from tests.conftest import Database, new_database, open_ledger
from tests.faults.standby import Cluster, cluster
from tests.presenting import UNLIMITED
from tests.service import Caller, RunningService, running_service, until

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
BACK_WITHIN_S: Final = 10.0


class Client:
    """What a customer does all day, on one service."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.admin = service.api_token()
        self.token = self.create().json()

    def create(self, admin: Caller | None = None) -> httpx.Response:
        ask = {"team_id": str(TEAM), "name": "Okta"}
        return self.service.client.post("/scim-token", json=ask, auth=admin or self.admin)

    def use(self, token: dict[str, Any]) -> httpx.Response:
        return self.service.client.get(
            "/gateway/nginx", headers={"Authorization": f"Bearer {token['token']}"}
        )

    def read(self, token: dict[str, Any]) -> httpx.Response:
        return self.service.client.get(f"/scim-token/{token['id']}", auth=self.admin)

    def ready(self) -> httpx.Response:
        return self.service.client.get("/readyz")

    def warm(self) -> None:
        """Every connection of every worker is open and was used."""
        for _ in range(12):
            assert (self.use(self.token).status_code, self.read(self.token).status_code) == (
                200,
                200,
            )

    def is_well(self) -> bool:
        """A new token is read and used at once; so is the old one."""
        created = self.create()
        if created.status_code != 201:
            return False
        answers = [
            ask(token) for ask in (self.use, self.read) for token in (created.json(), self.token)
        ]
        return all(answer.status_code == 200 for answer in answers)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of the log."""
        return [record for record in self.service.records() if record.get("event") == name]


@pytest.fixture
def pair() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def demote(pair: Cluster) -> None:
    """As an operator does who fences the old server and leaves it running."""
    pair.primary.configure("default_transaction_read_only", "on")


@contextmanager
def switched_over(pair: Cluster) -> Iterator[Client]:
    """A service of two workers, whose primary lives on, read-only,
    while the standby has been promoted.
    """
    with running_service(pair.database, workers=2, environment=UNLIMITED) as service:
        client = Client(service)
        client.warm()
        pair.until_streaming()
        demote(pair)
        pair.promote()
        yield client


@pytest.mark.long
def test_writes_and_reads_move_to_the_server_that_takes_writes(pair: Cluster) -> None:
    with switched_over(pair) as client:
        until(client.is_well, timeout_s=BACK_WITHIN_S, what="full service")
        for _ in range(20):  # no connection of either worker is left behind
            assert client.is_well()
        known = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scim-ledger'"
        until(lambda: pair.primary.ask(known) == [(0,)], what="the old server left")
        assert client.ready().json()["status"] == "ready"
        for worker in client.events("store.takes_no_writes"):
            assert worker["reason"].startswith("the database takes no writes")
        assert len(client.events("store.takes_no_writes")) <= 3, "one line of each process"


@pytest.mark.long
def test_a_read_alone_learns_it_too(pair: Cluster) -> None:
    """Without any write: the server tells with the end of an answer,
    and that answer is not believed.
    """

    async def main() -> None:
        async with (
            open_ledger(pair.database.app) as ledger,
            open_ledger(pair.database.app) as reader,
        ):
            old, _ = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            for _ in range(3):
                await asyncio.gather(*(reader.scim_token(old.id) for _ in range(4)))
            pair.until_streaming()
            demote(pair)
            pair.promote()
            new, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            await ledger.authenticate(secret, IDP)
            found = await asyncio.gather(*(reader.scim_token(new.id) for _ in range(8)))
            assert {token.id for token in found} == {new.id}

    uvloop.run(main())


def test_a_command_on_the_old_server_alone_is_not_decided_there(pair: Cluster) -> None:
    """One that changes nothing would be answered from what was: a new token is not found."""

    async def main() -> None:
        async with (
            open_ledger(pair.database.app) as ledger,
            open_ledger(pair.database.app) as other,
        ):
            await other.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            pair.until_streaming()
            demote(pair)
            pair.promote()
            new, _ = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            await other.revoke_scim_token(new.id, by=ADA)
            with pytest.raises(NotFound):
                await other.revoke_scim_token(uuid4(), by=ADA)

    uvloop.run(main())


@pytest.mark.long
def test_reads_that_do_not_heed_what_the_server_says_stay_behind(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug."""
    monkeypatch.setattr(read_pool, "takes_writes", lambda _: True)
    with pytest.raises(NotFound):
        test_a_read_alone_learns_it_too(pair)


def test_a_standby_is_no_server_to_work_with(pair: Cluster) -> None:
    async def main() -> None:
        async with open_ledger(pair.standby.database.app) as ledger:
            with pytest.raises(StoreReadOnly):
                await ledger.time()
            with pytest.raises(StoreReadOnly):
                await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)

    uvloop.run(main())


def test_the_second_of_two_hosts_is_reached_though_the_first_swallows_everything(
    pair: Cluster,
) -> None:
    """A machine that is gone without a word, or behind a firewall:
    half of the time is for the other host.
    """
    with silent_host() as (port, _):
        conninfo = behind_silent(port, pair.primary.database.app)

        async def main() -> None:
            async with open_ledger(conninfo) as ledger:
                for _ in range(2):
                    token, _ = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
                    assert (await ledger.scim_token(token.id)).id == token.id

        uvloop.run(main())


@contextmanager
def silent_host() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that lets everybody connect and says nothing; and who has connected."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as held:
        waiting: list[socket.socket] = []

        def take_in() -> None:
            with suppress(OSError):  # closed
                while True:
                    waiting.append(held.enter_context(listener.accept()[0]))

        with ThreadPoolExecutor(1) as thread:
            thread.submit(take_in)
            try:
                yield listener.getsockname()[1], waiting
            finally:
                listener.shutdown(socket.SHUT_RDWR)


def behind_silent(port: int, conninfo: str) -> str:
    """The same server, named after one that says nothing."""
    directory = conninfo_to_dict(conninfo)["host"]
    return make_conninfo(conninfo, host=f"127.0.0.1,{directory}", port=f"{port},5432")


def test_a_process_waits_once_for_a_host_that_says_nothing(pair: Cluster) -> None:
    with silent_host() as (port, waiting):
        conninfo = behind_silent(port, pair.primary.database.app)

        async def main() -> None:
            for _ in range(3):
                await (await connect(conninfo)).close()

        uvloop.run(main())
        for _ in range(3):
            open_connection(conninfo).close()
        assert len(waiting) == 1


@pytest.mark.parametrize(
    ("words", "roles"),
    [
        pytest.param(("token", "list"), 1, marks=pytest.mark.long),
        (("token", "show", str(uuid4())), 1),
        pytest.param(("token", "revoke", str(uuid4()), "--reason", "x"), 1, marks=pytest.mark.long),
        pytest.param(("verify",), 1, marks=pytest.mark.long),
        pytest.param(("backup", "ledger.dump"), 2, marks=pytest.mark.long),
    ],
)
def test_a_command_waits_once_for_each_role(
    pair: Cluster,
    words: Sequence[str],
    roles: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waited for each connection that it made: eighteen seconds for a revocation."""
    monkeypatch.chdir(tmp_path)
    create = ("api-token", "create", "--user", str(uuid4()))
    assert run(pair.primary.database.app, *create).exit_code == 0
    with silent_host() as (port, waiting):
        app, owner = (
            behind_silent(port, of)
            for of in (pair.primary.database.app, pair.primary.database.owner)
        )
        done = run(app, *words, SCIM_LEDGER_OWNER_DATABASE_URL=owner)
        if done.exit_code != 0:
            assert done.stderr == "scim-ledger: no such token\n"
        assert len(waiting) == roles


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Client]:
    with (
        new_database(server) as database,
        running_service(database, workers=2, environment=UNLIMITED) as it,
    ):
        yield Client(it)


def set_read_only(database: Database, value: str) -> None:
    """Of the database: a session learns of the server's or its own when it
    connects or the file is read.
    """
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("SET default_transaction_read_only = off")
        name = owner.info.dbname
        owner.execute(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'.encode()
        )
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.long
def test_readiness_says_that_nothing_can_be_written_and_is_back_by_itself(client: Client) -> None:
    """C3: one line of the log at each change, however many ask."""
    client.warm()
    before = len(client.events("store.takes_no_writes"))
    set_read_only(client.service.database, "on")
    asks: list[Callable[[], httpx.Response]] = [
        client.create,
        client.ready,
        lambda: client.use(client.token),
        lambda: client.read(client.token),
    ]
    for _ in range(10):
        assert [ask().status_code for ask in asks] == [503] * len(asks)
    told = client.ready().json()
    assert told["status"] == "read_only"
    assert told["problems"][0].startswith("the database takes no writes")
    assert 1 <= len(client.events("store.takes_no_writes")) - before <= 2, "a line of each worker"
    set_read_only(client.service.database, "off")
    until(client.is_well, timeout_s=BACK_WITHIN_S, what="full service")
    until(lambda: client.ready().status_code == 200, timeout_s=BACK_WITHIN_S, what="readiness")
    assert len(client.events("store.takes_writes_again")) >= 1


async def until_refused(ask: Callable[[], Awaitable[object]]) -> None:
    """By a server that does not take writes any more."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline:
        try:
            await ask()
        except StoreUnavailable:
            return
        except NotFound:
            pass
    pytest.fail("it was never refused")


def test_a_server_that_is_made_read_only_while_it_runs_is_noticed(pair: Cluster) -> None:
    """ALTER SYSTEM and a reload: the connections live on.

    No second server: 503, never a 401 or a 404.
    """

    async def main() -> None:
        async with open_ledger(pair.primary.database.app) as ledger:
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            await ledger.authenticate(secret, IDP)
            await ledger.scim_token(token.id)
            demote(pair)
            # each session reads the file by itself
            await until_refused(lambda: ledger.authenticate(secret, IDP))
            await until_refused(lambda: ledger.revoke_scim_token(uuid4(), by=ADA))
            for _ in range(3):
                for ask in (
                    lambda: ledger.authenticate(secret, IDP),
                    lambda: ledger.scim_token(uuid4()),
                    lambda: ledger.revoke_scim_token(uuid4(), by=ADA),
                    lambda: ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA),
                ):
                    with pytest.raises(StoreUnavailable):
                        await ask()
            pair.primary.configure("default_transaction_read_only", "off")
            deadline = time.monotonic() + BACK_WITHIN_S
            while time.monotonic() < deadline:
                try:
                    await ledger.authenticate(secret, IDP)
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    return
            pytest.fail("it did not come back")

    uvloop.run(main())

"""SIGKILL in the middle of a load: nothing that was acknowledged is lost."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import Unavailable
from domain.eventstore.batcher import Job
from domain.eventstore.command_batch import Command, Outcome
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.gate import AppendGate
from domain.eventstore.ledger_clock import LedgerClock
from domain.ledger import TokenLedger
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.primary import Primary
from domain.secret import Pepper, parse
from tests.conftest import CLOCK_AND_IDS, Database, Run, open_ledger
from tests.faults.acknowledged import IDP, Acknowledged, AcknowledgementLost
from tests.faults.own_server import OwnServer, own_server, postmaster_pid, process_tree, send
from tests.patience import patient
from tests.service import COMMAND, service_environment, until
from tests.stopwatch import Stopwatch

__all__ = ["patient"]  # that the answers are quick is another test's matter

TEAM, ADA = uuid4(), Operator(uuid4())
READY_WITHIN_S: Final = 5.0
LOADED_S: Final = 3.0
"""What two busy cores add to the return of what runs already;
a start is compared with the first one.
"""


class AnswersBeforeCommit(AppendGate):
    """The planted bug: a caller is told before the COMMIT makes its round trip."""

    async def _transact(
        self, connection: AsyncConnection[TupleRow], jobs: Sequence[Job[Command, Outcome]]
    ) -> None:
        batch = await self._load(connection, [job.ask for job in jobs])
        for job in jobs:
            outcome = batch.decide(job.ask)
            assert isinstance(outcome, Outcome)
            job.resolve(outcome)
        await asyncio.sleep(0)  # and one is told before the statement leaves
        await self._store(connection, batch)


def plant(ledger: TokenLedger, conninfo: str) -> None:
    """Give a ledger the gate with the bug."""
    ledger.gate = AnswersBeforeCommit(
        Primary(conninfo),
        REGISTRY,
        clock=LedgerClock(CLOCK_AND_IDS.clock),
        new_id=CLOCK_AND_IDS.new_id,
    )


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server(is_durable=True) as server:
        yield server


async def one_client(
    ledger: TokenLedger, told: Acknowledged, after_each: Callable[[str], None]
) -> None:
    """Creates, uses and revokes until the store is gone."""
    with suppress(Unavailable):
        while True:
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
            told.created[token.id] = secret
            after_each("created")
            for _ in range(2):
                use_id = (await ledger.authenticate(secret, IDP)).use_id
                assert use_id is not None
                told.uses.add(use_id)
                after_each("used")
            if random.random() < 0.3:
                told.revoking.add(token.id)
                await ledger.revoke_scim_token(token.id, by=ADA)
                told.revoked.add(token.id)
                after_each("revoked")


ANSWERS: Final = ("created", "used", "revoked")


async def kill_under_load(
    own: OwnServer,
    *,
    acknowledgements: int,
    after: Collection[str] = ANSWERS,
    is_planted: bool = False,
) -> None:
    """One death of the server, at or soon after such an answer once there were so many;
    then the check.
    """
    told = Acknowledged()
    async with open_ledger(own.database.app) as ledger:
        if is_planted:
            plant(ledger, own.database.app)
        await ledger.create_scim_token(NewScimToken(TEAM, "warm"), by=ADA)
        doomed: list[int] = []
        is_dead = False

        def count(answer: str) -> None:
            nonlocal is_dead
            if not doomed and 2 * len(told) >= acknowledgements:
                # looked up beforehand, for it takes longer than a commit
                doomed.extend(own.processes())
            if is_dead or len(told) < acknowledgements or answer not in after:
                return
            is_dead = True
            if random.random() < 0.5:
                send(doomed, signal.SIGKILL)
            else:
                asyncio.get_running_loop().call_later(
                    random.random() * 0.01, send, doomed, signal.SIGKILL
                )

        await asyncio.gather(*(one_client(ledger, told, count) for _ in range(8)))
    assert len(told) >= acknowledgements
    own.server.start()
    async with open_ledger(own.database.app) as ledger:
        await told.check(own.database, ledger)


def test_the_killed_database_has_all_that_was_acknowledged(own: OwnServer, run: Run) -> None:
    run(kill_under_load(own, acknowledgements=60))


@pytest.mark.long
@pytest.mark.parametrize("acknowledgements", [5, 60, 150])
def test_so_it_has_after_few_and_many(own: OwnServer, run: Run, acknowledgements: int) -> None:
    run(kill_under_load(own, acknowledgements=acknowledgements))


@pytest.mark.slow
def test_the_killed_database_has_all_that_was_acknowledged_every_time(
    own: OwnServer, run: Run
) -> None:
    for _ in range(40):
        run(kill_under_load(own, acknowledgements=random.randint(1, 400)))


@pytest.mark.long
def test_an_answer_before_the_commit_would_be_found(own: OwnServer, run: Run) -> None:
    for _ in range(10):
        with suppress(AcknowledgementLost):
            run(kill_under_load(own, acknowledgements=20, after=["created"], is_planted=True))
            continue
        return
    pytest.fail("the check found nothing wrong with a gate that is wrong")


class Serve:
    """`scim-ledger serve` on an embedded database in a directory of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._log = data_dir.with_suffix(".log")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.admin = ""
        self.first_start_s = 0.0

    def start(self) -> None:
        """Start, and wait until it is ready; the first start leaves an API
        token in the data directory.
        """
        watch = Stopwatch()
        with self._log.open("wb") as stderr:
            command = [COMMAND, "serve", "--port", "0", "--data-dir", str(self.data_dir)]
            process = subprocess.Popen(
                command, env=service_environment(None), stderr=stderr, start_new_session=True
            )
        self._processes.append(process)
        until(
            lambda: process.poll() is not None or "listens on" in self.log(),
            timeout_s=60,
            what="listening",
        )
        assert process.poll() is None, self.log()
        self.url = next(
            line.split()[-1] for line in self.log().splitlines() if "listens on" in line
        )
        self.admin = (self.data_dir / "first-api-token").read_text().strip()
        self.wait_ready(60)
        self.first_start_s = self.first_start_s or watch.read_s()

    def log(self) -> str:
        """Standard error of the newest start."""
        return self._log.read_text()

    def wait_ready(self, timeout_s: float) -> None:
        """Until /readyz says so."""

        def is_ready() -> bool:
            with suppress(httpx.TransportError):
                return (
                    httpx.get(f"{self.url}/readyz", timeout=3, trust_env=False).status_code == 200
                )
            return False

        until(is_ready, timeout_s=timeout_s, what="readiness")

    def kill(self, *, has_database: bool) -> None:
        """SIGKILL to the supervisor and all its processes, with or without the database server."""
        supervisor = self._processes[-1]
        database = set(process_tree(postmaster_pid(self.data_dir)))
        send([pid for pid in process_tree(supervisor.pid) if pid not in database], signal.SIGKILL)
        if has_database:
            send(sorted(database), signal.SIGKILL)
        supervisor.wait()

    def kill_database(self) -> int:
        """SIGKILL to the database server alone; the old postmaster's id."""
        pid = postmaster_pid(self.data_dir)
        send(process_tree(pid), signal.SIGKILL)
        return pid

    def stop(self) -> None:
        """End whatever still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    self.kill(has_database=True)
        EmbeddedPostgres(self.data_dir).stop()

    @property
    def database(self) -> Database:
        """For looking behind the service's back."""
        server = EmbeddedPostgres(self.data_dir)
        return Database(
            owner=server.conninfo(user="postgres", dbname="scim_ledger"),
            app=server.conninfo(user="scim_ledger", dbname="scim_ledger"),
        )


@contextmanager
def directory() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="scim-ledger-kill-", dir="/tmp"))
    base.chmod(0o711)
    try:
        yield base / "ledger"
    finally:
        shutil.rmtree(base)


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    with directory() as data_dir:
        started = Serve(data_dir)
        try:
            started.start()
            yield started
        finally:
            started.stop()


class Load:
    """Threads that create, use and revoke over HTTP until told to stop; what they were told."""

    def __init__(self, serve: Serve) -> None:
        self.told = Acknowledged()
        self.let_in: dict[UUID, int] = {}
        self.surprises: list[str] = []
        self._serve = serve
        self._enough = threading.Event()
        self._stopping = threading.Event()

    @contextmanager
    def running(self, *, until_told: int) -> Iterator[None]:
        """Load for as long as the block takes, which begins when so much was acknowledged."""
        with ThreadPoolExecutor(6) as threads:
            clients = [threads.submit(self._client, until_told) for _ in range(6)]
            try:
                assert self._enough.wait(60)
                yield
            finally:
                self._stopping.set()
        for client in clients:
            client.result()

    def _client(self, until_told: int) -> None:
        with httpx.Client(base_url=self._serve.url, timeout=5, trust_env=False) as client:
            while not self._stopping.is_set():
                try:
                    self._walk(client)
                except httpx.TransportError:
                    time.sleep(0.01)  # not to spin while nobody listens
                if len(self.told) >= until_told:
                    self._enough.set()

    def _walk(self, client: httpx.Client) -> None:
        admin = {"Authorization": f"Bearer {self._serve.admin}"}
        ask = {"team_id": str(TEAM), "name": "Okta"}
        created = self._ask(client, "POST", "/scim-token", 201, headers=admin, json=ask)
        if created is None:
            return
        token = created.json()
        id_, secret = UUID(token["id"]), token["token"]
        self.told.created[id_] = parse(secret)
        for _ in range(2):
            bearer = {"Authorization": f"Bearer {secret}"}
            if self._ask(client, "GET", "/scim/v2/Schemas", 200, headers=bearer) is not None:
                self.let_in[id_] = self.let_in.get(id_, 0) + 1
        if random.random() < 0.3:
            self.told.revoking.add(id_)
            if self._ask(client, "DELETE", f"/scim-token/{id_}", 200, headers=admin) is not None:
                self.told.revoked.add(id_)

    def _ask(
        self, client: httpx.Client, method: str, path: str, expected: int, **parts: Any
    ) -> httpx.Response | None:
        answer = client.request(method, path, **parts)
        if answer.status_code not in {expected, 503}:
            self.surprises.append(f"{method} {path.rpartition('/')[0]}: {answer.status_code}")
        return answer if answer.status_code == expected else None

    def check(self, run: Run) -> None:
        """Everything that was acknowledged is there, and nobody was told anything strange."""

        async def main() -> None:
            database = self._serve.database
            pepper = Pepper([(self._serve.data_dir / "pepper").read_bytes()])
            async with TokenLedger(
                database.app, pepper=pepper, clock_and_ids=CLOCK_AND_IDS
            ) as ledger:
                for id_, count in self.let_in.items():
                    if (await ledger.scim_token(id_)).uses < count:
                        raise AcknowledgementLost("a use")
                await self.told.check(database, ledger)

        run(main())
        assert self.surprises == []


@pytest.mark.long
@pytest.mark.parametrize(
    "has_database",
    [
        pytest.param(False, id="service"),
        pytest.param(True, id="service-and-database", marks=pytest.mark.slow),
    ],
)
def test_a_killed_serve_loses_nothing_and_the_next_one_is_ready_in_time(
    serve: Serve, run: Run, *, has_database: bool
) -> None:
    load = Load(serve)
    with load.running(until_told=30):
        serve.kill(has_database=has_database)
    watch = Stopwatch()
    serve.start()
    # The first start does more: it makes the database. On a busy machine that tells what 5 s are.
    assert watch.read_s() < max(READY_WITHIN_S, 1.5 * serve.first_start_s)
    load.check(run)


@pytest.mark.long
def test_a_killed_database_is_restarted_by_the_living_serve_in_time(serve: Serve, run: Run) -> None:
    load = Load(serve)
    with load.running(until_told=30):
        killed = serve.kill_database()
        watch = Stopwatch()
        until(lambda: postmaster_of(serve) not in {None, killed}, timeout_s=30, what="a new server")
        serve.wait_ready(30)
        before = len(load.told)
        until(lambda: len(load.told) > before + 5, timeout_s=30, what="load")
        assert watch.read_s() < READY_WITHIN_S + LOADED_S
    load.check(run)
    assert all("Traceback" not in json.dumps(line) for line in serve.log().splitlines())


def postmaster_of(serve: Serve) -> int | None:
    try:
        pid = postmaster_pid(serve.data_dir)
        os.kill(pid, 0)
    except (OSError, IndexError):
        return None
    return pid

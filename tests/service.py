"""The real service: `scim-ledger serve` as child processes, on a database of the test's own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import httpx
import psycopg

from api.settings import PREFIX
from domain.api_token.permissions import Permission
from domain.commands import ClockAndIds, NewApiToken
from domain.ledger import TokenLedger
from domain.secret import Pepper
from tests.conftest import CLOCK_AND_IDS, TESTS_KEY, Database
from tests.stopwatch import Stopwatch

T = TypeVar("T")
COMMAND: Final = str(Path(sys.executable).with_name("scim-ledger"))
PEPPER_KEY: Final = TESTS_KEY
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 30.0
_LISTENS: Final = "scim-ledger listens on "


class Caller(httpx.Auth):
    """An API token that a client sends with its requests: `client.get(path, auth=caller)`."""

    def __init__(self, id_: UUID, user_id: UUID, secret: str) -> None:
        self.id = id_
        self.user_id = user_id
        self.secret = secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The library's hook."""
        request.headers["Authorization"] = f"Bearer {self.secret}"
        yield request


@dataclass(frozen=True)
class RunningService:
    """A service that answers.

    url: without a slash at the end. pid: of the supervisor. log: its standard error; output: its
    standard output. first_token: where the first API token of an empty ledger is. client: sends no
    credentials by itself.
    """

    url: str
    pid: int
    log: Path
    output: Path
    first_token: Path
    database: Database
    client: httpx.Client

    def api_token(
        self,
        *permissions: Permission,
        teams: Sequence[UUID] | None = None,
        user_id: UUID | None = None,
        lifetime: timedelta | None = timedelta(days=1),
    ) -> Caller:
        """A new API token; it may do everything unless permissions or teams are named.

        All permissions are asked for, so that teams do not take any away.
        """
        ask = NewApiToken(
            user_id or uuid4(),
            None if teams is None else tuple(teams),
            permissions or tuple(Permission),
            lifetime,
        )
        token, secret = self.command(lambda ledger: ledger.create_api_token(ask))
        return Caller(token.id, token.user_id, secret.reveal())

    def command(
        self,
        ask: Callable[[TokenLedger], Awaitable[T]],
        *,
        clock_and_ids: ClockAndIds = CLOCK_AND_IDS,
    ) -> T:
        """Run one command on the service's ledger from this process, as the command line does."""

        async def run() -> T:
            pepper = Pepper([PEPPER_KEY.encode()])
            async with TokenLedger(
                self.database.app, pepper=pepper, clock_and_ids=clock_and_ids
            ) as ledger:
                return await ask(ledger)

        # In a thread of its own: the driver of a browser keeps a loop in this one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result()

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, as the owner of the database; none for one that returns nothing."""
        with psycopg.connect(self.database.owner, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def program_pids(self) -> Mapping[str, int]:
        """The newest process of each program: "projections", "worker-1", …"""
        started = (record for record in self.records() if record.get("event") == "program started")
        return {record["program"]: record["pid"] for record in started}

    def records(self) -> list[dict[str, Any]]:
        """What was logged so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def running_service(
    database: Database,
    *more_arguments: str,
    workers: int = 1,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    readiness: int = 200,
) -> Iterator[RunningService]:
    """Start the service, wait until it is ready, and in the end stop it and look at how it went.

    more_arguments: of `serve`. port: 0 takes a free one. environment: further variables. readiness:
    the status that is waited for. A service
    that does not leave with 0 after SIGTERM, or whose log holds a traceback, fails the test.
    """
    arguments = ("serve", "--port", str(port), "--workers", str(workers), *more_arguments)
    with tempfile.TemporaryDirectory(prefix="scim-ledger-service-") as directory:
        log, output, token = (
            Path(directory, name) for name in ("log", "output", "first-api-token")
        )
        more = {"SCIM_LEDGER_FIRST_TOKEN_FILE": str(token)} | dict(environment or {})
        given = service_environment(database.app, **more)
        with log.open("wb") as stderr, output.open("wb") as stdout:
            process = subprocess.Popen(
                [COMMAND, *arguments],
                env=given,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            url = _address(process, log)
            with httpx.Client(base_url=url, timeout=10, trust_env=False, verify=False) as client:
                service = RunningService(url, process.pid, log, output, token, database, client)
                _wait_until_ready(service, process, readiness)
                yield service
        finally:
            exit_code = _stop(process)
        logged = log.read_text()
        assert exit_code == 0, f"exit code {exit_code}\n{logged}"
        assert "Traceback" not in logged, logged


def service_environment(database_url: str | None, **more: str) -> dict[str, str]:
    """The variables for a process of the service; None for the embedded server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    kept.pop("DATABASE_URL", None)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # each of many processes would compile anew
    if database_url is not None:
        kept |= {
            "DATABASE_URL": database_url,
            "SCIM_LEDGER_PEPPER": PEPPER_KEY,
            "SCIM_LEDGER_ALLOW_UNSAFE_DATABASE": "true",  # the server of the tests does not fsync
        }
    return kept | more


def until(
    is_done: Callable[[], bool],
    *,
    timeout_s: float = 10.0,
    what: str = "it",
    tell: Callable[[], str] = str,
) -> None:
    """Poll until something outside this process has happened; `tell` says why it did not."""
    watch = Stopwatch()
    while not is_done():
        assert watch.read_s() < timeout_s, f"{what} did not happen within {timeout_s} s\n{tell()}"
        time.sleep(0.01)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    found: list[str] = []

    def has_told() -> bool:
        text = log.read_text()
        assert process.poll() is None, f"exit code {process.returncode} at start\n{text}"
        found[:] = [
            line.removeprefix(_LISTENS) for line in text.splitlines() if line.startswith(_LISTENS)
        ]
        return bool(found)

    until(has_told, timeout_s=START_TIMEOUT_S, what="listening", tell=log.read_text)
    return found[0]


def _wait_until_ready(
    service: RunningService, process: "subprocess.Popen[bytes]", status: int
) -> None:
    """Until it answers, and its views have caught up: then the projection process leads."""

    def is_ready() -> bool:
        assert process.poll() is None, service.log.read_text()
        try:
            answer = service.client.get("/readyz")
        except httpx.TransportError:
            return False
        if answer.status_code != status or status != 200:
            return answer.status_code == status
        views = answer.json().get("projections", [])
        return bool(views) and all(view["lag"] == 0 for view in views)

    until(is_ready, timeout_s=START_TIMEOUT_S, what="readiness", tell=service.log.read_text)


def _stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()

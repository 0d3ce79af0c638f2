"""One real PostgreSQL per test run, one database per test.

The server is embedded unless TEST_DATABASE_URL names one (a superuser's connection string). Workers
of a parallel run share it: the first one starts it, the last one stops it.
"""

import fcntl
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

import hypothesis
import psycopg
import pytest
import uvloop
from psycopg import sql
from psycopg.conninfo import make_conninfo

from api import clock_and_ids
from domain.commands import ClockAndIds
from domain.ledger import TokenLedger
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import migrate
from domain.secret import Pepper
from projections.follow.positions import ensure_live
from projections.registry import PROJECTIONS
from projections.runner import BATCH, Runner
from tests.schedule import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from tests.second_chance import (
    pytest_report_teststatus,
    pytest_runtest_protocol,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from tests.service import RunningService

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_report_teststatus",
    "pytest_runtest_protocol",
    "pytest_terminal_summary",
    "pytest_xdist_make_scheduler",
]

T = TypeVar("T")


class Run(Protocol):
    """What the fixture `run` is."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


APP_ROLE = "scim_ledger_app_test"
TEMPLATE = "scim_ledger_template"
ROOM = 6 << 30
sys.dont_write_bytecode = False  # each worker of each run would compile all tests anew
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")
TESTS_KEY = "tests-and-their-services-know-this-key"
PEPPER = Pepper([TESTS_KEY.encode()])


@dataclass(frozen=True)
class Database:
    """One migrated database.

    owner: connection string of its owner; app: of the least-privileged role.
    """

    owner: str
    app: str


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, None, None]:
    """What is collected stays until the end: the garbage collector need not look at it again."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """Connection string of a superuser on the run's server, its template database ready."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given is not None:
        with _locked(Path(tempfile.gettempdir()) / "scim-ledger-tests.lock"):
            _prepare(given)
        yield given
        return
    run = (
        tmp_path_factory.getbasetemp()
        if worker_id == "master"
        else tmp_path_factory.getbasetemp().parent
    )
    with _shared_server(run) as conninfo:
        yield conninfo


@pytest.fixture
def database(server: str) -> Iterator[Database]:
    """A database of this test's own, migrated, its views made."""
    with new_database(server) as made:
        yield made


@pytest.fixture(scope="module")
def two_services(server: str) -> Iterator["tuple[RunningService, RunningService]"]:
    """Two services of one ledger, without rate limits,
    for all tests of a file that bring tokens of their own.
    """
    from tests.presenting import UNLIMITED  # noqa: PLC0415 - both need this module
    from tests.service import running_service  # noqa: PLC0415

    with (
        new_database(server) as database,
        running_service(database, environment=UNLIMITED) as one,
        running_service(database, environment=UNLIMITED) as other,
    ):
        yield one, other


@pytest.fixture(scope="session")
def behind(server: str) -> Iterator["RunningService"]:
    """A service behind a proxy that it trusts, with an access log,
    for the files that share it (`tests.schedule`).
    """
    from tests.service import running_service  # noqa: PLC0415 - it needs this module

    settings = {
        "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1",
        "SCIM_LEDGER_RATE_PER_SOURCE": "0",
        "SCIM_LEDGER_ACCESS_LOG": "true",
    }
    with (
        new_database(server) as database,
        running_service(database, environment=settings) as service,
    ):
        yield service


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """Connection string of a database without any schema of ours."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(name)))
        yield make_conninfo(server, dbname=name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def new_database(server: str, *, template: str = TEMPLATE) -> Iterator[Database]:
    """A database, migrated, its views made, dropped afterwards; for fixtures of any scope.

    template: what it is a copy of; PostgreSQL's own `template0` for an empty one.
    """
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield Database(
            owner=make_conninfo(server, dbname=name),
            app=make_conninfo(server, dbname=name, user=APP_ROLE),
        )
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


now = clock_and_ids.now

CLOCK_AND_IDS = ClockAndIds(clock=now, new_id=uuid4, entropy=lambda: os.urandom(32))


@asynccontextmanager
async def open_ledger(
    conninfo: str, *, clock_and_ids: ClockAndIds = CLOCK_AND_IDS
) -> AsyncIterator[TokenLedger]:
    """A ledger of its own process, as far as the database can tell."""
    async with TokenLedger(conninfo, pepper=PEPPER, clock_and_ids=clock_and_ids) as ledger:
        yield ledger


@pytest.fixture
def run() -> Run:
    """Runs one coroutine to its end, on the loop that workers have; tests are plain functions."""
    return uvloop.run


def catch_up(database: Database, *, batch: int = BATCH) -> None:
    """Bring every view to the ledger's head, as the runner does. batch: events at a time."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        Runner(database.app, PROJECTIONS, batch=batch).catch_up(connection)


@contextmanager
def _shared_server(run: Path) -> Iterator[str]:
    """Start or join the run's server; its last user stops it."""
    marker = run / "postgres-base"
    with _locked(run / "postgres.lock"):
        if not marker.exists():
            # Not below pytest's own 0700 directory: as root the server runs as another user.
            marker.write_text(tempfile.mkdtemp(prefix="scim-ledger-tests-", dir=roomy_directory()))
        base = Path(marker.read_text())
        # Buffers of the usual size would be looked through for each database that is dropped.
        settings = {"max_connections": "300", "max_wal_size": "512MB", "shared_buffers": "64MB"}
        server = EmbeddedPostgres(base, is_durable=False, settings=settings)
        server.start()
        conninfo = server.conninfo(user="postgres", dbname="postgres")
    try:
        with _locked(run / "postgres.lock"):
            _prepare(conninfo)
        yield conninfo
    finally:
        with _locked(run / "postgres.lock"):
            server.stop()
            if not server.is_running:
                shutil.rmtree(base)
                marker.unlink()


def roomy_directory() -> str:
    """Memory where there is enough: a new database is 366 files,
    25 ms there and 90 to 280 on a disk.
    """
    memory = Path("/dev/shm")
    with suppress(OSError):
        room = os.statvfs(memory)
        free = min(
            room.f_bavail * room.f_frsize,
            os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        )
        if free >= ROOM and not room.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK):
            return str(memory)
    return "/tmp"


def _prepare(conninfo: str) -> None:
    """The app role and the template database, once per server and release."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        with suppress(psycopg.errors.DuplicateObject):
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(APP_ROLE)))
        known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
        if known is not None:
            return
        building = f"{TEMPLATE}_building"
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(building)))
        admin.execute(
            sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(building))
        )
        migrate(make_conninfo(conninfo, dbname=building), app_role=APP_ROLE)
        with psycopg.connect(
            make_conninfo(conninfo, dbname=building, user=APP_ROLE), autocommit=True
        ) as app:
            for projection in PROJECTIONS:
                ensure_live(app, projection)
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(building), sql.Identifier(TEMPLATE)
            )
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

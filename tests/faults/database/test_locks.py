"""A lock that keeps every append waiting: readiness says that, and the doctor says whose it is."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import product
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
import pytest
from msgspec import DecodeError

from api.doctor import locks
from api.doctor.finding import Status
from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import LedgerLocked, StoreUnavailable
from domain.eventstore import append
from domain.scim_token.events import Presentation
from tests.conftest import Database, Run, new_database, open_ledger
from tests.service import RunningService, running_service, until
from tests.stopwatch import Stopwatch
from tests.turns import by_turns

PROBED_WITHIN_S: Final = 2.0
SHUTS_WRITERS_OUT: Final[list[LiteralString]] = ["SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"]
LETS_THEM_IN: Final[list[LiteralString]] = ["ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"]
TABLES: Final[list[LiteralString]] = ["secrets", "stream_heads", "events", "aggregates", "commands"]
Hold = Callable[[Database], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    with new_database(server) as database, running_service(database) as running:
        yield running


@contextmanager
def held(database: Database, statement: LiteralString) -> Iterator[int]:
    """Another session executes it and does not end its transaction; its process id."""
    with psycopg.connect(database.owner, application_name="psql") as other:
        other.execute(statement)
        yield other.info.backend_pid
        other.rollback()


@contextmanager
def a_table(database: Database, table: LiteralString, mode: LiteralString) -> Iterator[str]:
    with held(database, f"LOCK TABLE ledger.{table} IN {mode} MODE") as pid:
        yield f"process {pid} of postgres (psql) holds "


@contextmanager
def the_append_lock(database: Database) -> Iterator[str]:
    with held(database, append.LOCK) as pid:
        yield f"process {pid} of postgres (psql) holds the append lock"


@contextmanager
def a_change_that_waits(database: Database) -> Iterator[str]:
    """It holds nothing yet, and whoever comes later waits behind it."""
    queued = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    with ExitStack() as stack:
        reader = stack.enter_context(held(database, "SELECT FROM ledger.secrets"))
        change = stack.enter_context(
            closing(psycopg.connect(database.owner, application_name="psql"))
        )
        pid = change.info.backend_pid
        change.pgconn.send_query(b"BEGIN; ALTER TABLE ledger.secrets ADD COLUMN more int")
        with psycopg.connect(database.owner, autocommit=True) as third:
            until(lambda: third.execute(queued, [pid]).fetchone() == (1,), what="a queued change")
            yield (
                f"process {pid} of postgres (psql) waits for AccessExclusiveLock on "
                f"ledger.secrets, behind process {reader}"
            )
            third.execute("SELECT pg_terminate_backend(%s)", [pid])


WAITING: Final = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_however_many_ask_one_waits_for_the_append_lock(database: Database, run: Run) -> None:
    """Anybody may ask, and each who waits there stands before a use."""

    async def main() -> None:
        with the_append_lock(database):
            async with open_ledger(database.app) as ledger:
                asked = [asyncio.create_task(ledger.require_appends()) for _ in range(30)]
                seen = set()
                with psycopg.connect(database.owner, autocommit=True) as looks:
                    while not all(task.done() for task in asked):
                        seen.add(looks.execute(WAITING).fetchone())
                        await asyncio.sleep(0.05)
                for outcome in await asyncio.gather(*asked, return_exceptions=True):
                    assert isinstance(outcome, StoreUnavailable)
            assert seen - {(0,)} == {(1,)}

    run(main())


def ready(service: RunningService) -> tuple[int, list[str]]:
    watch = Stopwatch()
    answer = service.client.get("/readyz")
    assert watch.read_s() < PROBED_WITHIN_S
    return answer.status_code, answer.json().get("problems", [])


@pytest.mark.parametrize("hold", [the_append_lock, a_change_that_waits], ids=lambda h: h.__name__)
def test_what_keeps_appends_waiting_is_told(service: RunningService, hold: Hold) -> None:
    with hold(service.database) as who:
        assert ready(service) == (503, [str(LedgerLocked())])
        assert who in told(service.database)
    assert ready(service) == (200, [])


@pytest.mark.parametrize(("table", "mode"), by_turns(product(TABLES, SHUTS_WRITERS_OUT), one_of=5))
def test_a_table_that_shuts_writers_out_is_told(
    service: RunningService, table: LiteralString, mode: LiteralString
) -> None:
    with a_table(service.database, table, mode) as who:
        assert ready(service) == (503, [str(LedgerLocked())])
        assert f"{who}{mode.title().replace(' ', '')}Lock on ledger.{table}" in told(
            service.database
        )
    assert ready(service) == (200, [])


@pytest.mark.parametrize("mode", LETS_THEM_IN)
def test_a_table_that_others_use_is_no_trouble(
    service: RunningService, mode: LiteralString
) -> None:
    with ExitStack() as stack:
        for table in TABLES:
            stack.enter_context(a_table(service.database, table, mode))
        assert ready(service) == (200, [])
        assert told(service.database) == ""


def told(database: Database) -> str:
    """What the doctor finds, as the app role; nothing when all is well."""
    with psycopg.connect(
        database.app, autocommit=True, options="-c lock_timeout=300"
    ) as connection:
        (finding,) = locks.appends(connection)
    return "" if finding.status is Status.OK else finding.found


def test_to_look_takes_no_transaction_id(service: RunningService) -> None:
    """It is asked every few seconds by each probe, for years."""
    with psycopg.connect(service.database.app) as connection:
        connection.execute(append.MAY_APPEND)
        row = connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
    assert row == (None,)


@pytest.mark.parametrize("state", [b"", b"{}", b"no JSON"])
def test_a_command_on_a_state_that_cannot_be_read_keeps_no_lock(
    database: Database, run: Run, state: bytes
) -> None:
    async def main() -> None:
        new, by, idp = NewScimToken(uuid4(), "Okta"), Operator(uuid4()), Presentation(door="scim")
        async with open_ledger(database.app) as one, open_ledger(database.app) as other:
            damaged, _ = await one.create_scim_token(new, by=by)
            _, secret = await other.create_scim_token(new, by=by)
            await other.authenticate(secret, idp)
            with psycopg.connect(database.owner) as owner:
                damage = "UPDATE ledger.aggregates SET state = %s WHERE originator_id = %s"
                owner.execute(damage, [state, damaged.id])
            with pytest.raises(DecodeError):
                await one.revoke_scim_token(damaged.id, by=by)
            await other.authenticate(secret, idp)
            await other.create_scim_token(new, by=by)
            await one.create_scim_token(new, by=by)

    run(main())

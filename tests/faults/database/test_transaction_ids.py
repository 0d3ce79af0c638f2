"""PostgreSQL near the end of its transaction ids warns in each append: it is served all the same.

Then the server takes no writes, and the doctor has said so before.
"""

import os
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from api.doctor import server
from api.doctor.finding import Status
from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import AppendsRefused, StoreUnavailable
from domain.event import Recorded
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.uses import Decision
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.scim_token.events import Presentation, Revoked
from tests.conftest import APP_ROLE, Database, Run, open_ledger
from tests.ready_cluster import own_copy

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
IDS_OF_A_SEGMENT: Final = 1 << 20
SEGMENT: Final = IDS_OF_A_SEGMENT // 4
NEXT_ID: Final = "SELECT pg_current_xact_id()"


@pytest.fixture(scope="module")
def held() -> Iterator[EmbeddedPostgres]:
    """A server with a replication slot that nobody reads: no old id can be cleared away."""
    with own_copy("ids", settings={"wal_level": "logical"}) as made:
        made.start()
        with psycopg.connect(ledger_of(made).owner, autocommit=True) as forgetful:
            forgetful.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        yield made


def ledger_of(own: EmbeddedPostgres) -> Database:
    owner = own.conninfo(user="postgres", dbname="postgres")
    return Database(owner=owner, app=make_conninfo(owner, user=APP_ROLE))


def leave(own: EmbeddedPostgres, millions: int) -> Database:
    """Start it again with so many ids left before the oldest one."""
    with psycopg.connect(ledger_of(own).owner) as connection:
        oldest = connection.execute(
            "SELECT min(datfrozenxid::text::bigint) FROM pg_database"
        ).fetchone()
    assert oldest is not None
    next_id = oldest[0] + (1 << 31) - millions * 1_000_000
    data = own.base_dir / "data"
    own.stop()
    reset = own._account.run(own.programs() / "pg_resetwal", "-f", "-x", str(next_id), "-D", data)
    assert reset.returncode == 0, reset.stderr
    segments = data / "pg_xact"
    like = (segments / "0000").stat()
    segment = segments / f"{next_id // IDS_OF_A_SEGMENT:04X}"
    segment.write_bytes(bytes(SEGMENT))
    segment.chmod(0o600)
    os.chown(segment, like.st_uid, like.st_gid)
    own.start()
    return ledger_of(own)


def found(database: Database) -> tuple[Status, str]:
    with psycopg.connect(database.app) as connection:
        finding = server.transaction_ids(connection)
    return finding.status, finding.found


def said(database: Database) -> set[str | None]:
    """Where in its source the server warns a transaction that takes an id."""
    warned: set[str | None] = set()
    with psycopg.connect(database.app) as connection:
        connection.add_notice_handler(lambda notice: warned.add(notice.source_function))
        connection.execute(NEXT_ID)
    return warned


def test_ids_that_run_out_are_told_and_stop_nothing_before_postgresql_does(
    held: EmbeddedPostgres, run: Run
) -> None:
    assert found(ledger_of(held))[0] is Status.OK

    assert found(leave(held, 400))[0] is Status.WARN

    warning = leave(held, 30)
    assert said(warning) == {"GetNewTransactionId"}
    status, what = found(warning)
    assert (status, "nothing can be written at 2,144,483,648" in what) == (Status.FAIL, True)
    run(all_is_served(warning))

    ended = leave(held, 2)
    assert found(ended)[0] is Status.FAIL
    run(nothing_is_served(ended))


def test_a_trigger_that_warns_stops_nothing(database: Database, run: Run) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE WARNING 'seen'; RETURN NULL; END $$"
        )
        owner.execute(
            "CREATE TRIGGER warn AFTER INSERT ON ledger.events EXECUTE FUNCTION public.warn()"
        )
    run(all_is_served(database))


async def nothing_is_served(database: Database) -> None:
    """And readiness says why, once the process has seen it."""
    async with open_ledger(database.app) as ledger:
        await ledger.require_appends()
        with pytest.raises(StoreUnavailable):
            await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
        with pytest.raises(AppendsRefused, match="has no transaction ids left"):
            await ledger.require_appends()


async def all_is_served(database: Database) -> None:
    """A command, a use, and an append through the library."""
    async with open_ledger(database.app) as ledger:
        token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)
        assert isinstance(await ledger.authenticate(secret, IDP), Decision)
        at = LedgerClock(ledger.clock_and_ids.clock)()
        ledger.save(Recorded(token.id, 3, at, uuid4(), Revoked(revoked_by=None, reason=None)))

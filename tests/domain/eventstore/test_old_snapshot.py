"""B10: what a use costs does not grow while an old snapshot (a dump,
a long query) keeps dead rows alive.

Costs are pages looked at, as the database counts them: no clock has a part in it.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.resources import files
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.append import LOAD
from domain.scim_token.events import Presentation
from domain.secret import Secret
from tests.conftest import PEPPER, Database, open_ledger

SCIM: Final = Presentation(door="scim")
USES: Final = 1500
RECORD: Final = (
    "SELECT * FROM ledger.record_uses(date_trunc('milliseconds', now()), "
    "ARRAY[%s::bytea], ARRAY[%s::uuid], ARRAY[1], ARRAY['x'::bytea])"
)


@pytest.fixture
def old_snapshot(database: Database) -> Iterator[Connection]:
    """A session that holds a snapshot from before the uses."""
    with psycopg.connect(database.owner) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM ledger.stream_heads")
        yield holder


def pages(connection: Connection, statement: str, *parameters: object) -> int:
    """How many pages a statement looks at; what it writes is taken back."""
    with connection.transaction(force_rollback=True):
        row = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), parameters
        ).fetchone()
    assert row is not None
    plan: dict[str, int] = row[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def costs(connection: Connection, token_id: UUID, secret: Secret) -> tuple[int, int, int]:
    """Of a use, of a use that the second statement records, and of loading the token's state."""
    digest = PEPPER.digest(secret).value
    second = RECORD.replace("[%s::bytea]", "[%s::bytea, '\\x00']").replace(
        "ARRAY[1], ARRAY['x'::bytea]", "ARRAY[1, 1], ARRAY['x'::bytea, 'x'::bytea]"
    )
    second = second.replace("ARRAY[%s::uuid]", "ARRAY[%s::uuid, gen_random_uuid()]")
    return (
        pages(connection, RECORD, digest, uuid4()),
        pages(connection, second, digest, uuid4()),
        pages(connection, LOAD, [token_id]),
    )


def after_many_uses(database: Database, look: Callable[[UUID, Secret], None]) -> None:
    """Look at a token before and after it was used often, each use with a commit of its own."""

    async def play() -> None:
        async with open_ledger(database.app) as ledger:
            token, secret = await ledger.create_scim_token(
                NewScimToken(uuid4(), "hot"), by=Operator(uuid4())
            )
            await ledger.authenticate(secret, SCIM)
            await asyncio.to_thread(look, token.id, secret)
            for _ in range(USES):
                await ledger.authenticate(secret, SCIM)
            await asyncio.to_thread(look, token.id, secret)
            rotated, _ = await ledger.rotate_scim_token(
                token.id, overlap=timedelta(0), by=Operator(uuid4())
            )
            assert rotated.version == USES + 3
            assert rotated.uses == USES + 1

    asyncio.run(play())


def growth(database: Database) -> list[float]:
    """How many times as many pages each kind of cost takes afterwards."""
    found: list[tuple[int, int, int]] = []

    def look(token_id: UUID, secret: Secret) -> None:
        with psycopg.connect(database.owner, autocommit=True) as connection:
            costs(connection, token_id, secret)  # the first one of a session reads the catalogue
            found.append(costs(connection, token_id, secret))

    after_many_uses(database, look)
    before, after = found
    return [late / early for early, late in zip(before, after, strict=True)]


def test_a_use_costs_the_same_however_old_a_snapshot_is_held(
    database: Database, old_snapshot: Connection
) -> None:
    assert max(growth(database)) < 2
    assert old_snapshot.execute("SELECT count(*) FROM ledger.stream_heads").fetchone() == (0,)


@pytest.mark.long
def test_a_statement_that_passes_the_dead_rows_is_found(
    database: Database, old_snapshot: Connection
) -> None:
    """Planted: the function as it was before chapters."""
    first = files("domain.eventstore").joinpath("migrations", "0001_ledger.sql").read_text("utf-8")
    function = first[first.index("CREATE FUNCTION ledger.record_uses(") :]
    with psycopg.connect(database.owner) as owner:
        owner.execute(function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").encode())
    uses, again, _ = growth(database)
    assert min(uses, again) > 2
    assert not old_snapshot.closed

"""Whatever tables there are, and whoever waits for the append lock: what is told of the store is
what its catalogue and its clock say.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st
from psycopg import sql

from domain.postgres.read_pool import ReadPool
from projections.figures.queries import FigureQueries
from tests.conftest import Database, new_database
from tests.domain.scenario import T0, TOKEN_ID, created, used
from tests.projections.history import given
from tests.service import until

T = TypeVar("T")
SCHEMAS: Final = ("ledger", "views", "public")
NAMES: Final = ("events_of_old", "old_events", "scim_tokens_v9", "secrets_of_old", "aggregates")
"""Names that begin, end and do not begin as the ledger's own do."""
APPENDS: Final = "SELECT pg_advisory_xact_lock(7239075814)"
STATE: Final = frozenset({"aggregates", "api_tokens", "stream_heads", "secrets"})


def asked(database: Database, ask: Callable[[FigureQueries], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        pool = ReadPool(database.app, timeout_s=10)
        try:
            return await ask(FigureQueries(pool))
        finally:
            await pool.close()

    return asyncio.run(main())


@contextmanager
def with_tables(database: Database, tables: Sequence[tuple[str, str, int]]) -> Iterator[None]:
    """Tables beside those that there are, with an index each and so many rows."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        made = []
        for schema, name, rows in tables:
            table = sql.Identifier(schema, name)
            if owner.execute("SELECT to_regclass(%s)", [f"{schema}.{name}"]).fetchone() != (None,):
                continue
            owner.execute(
                sql.SQL("CREATE TABLE {} AS SELECT n FROM generate_series(1, {}) n").format(
                    table, sql.Literal(rows)
                )
            )
            owner.execute(sql.SQL("CREATE INDEX ON {} (n)").format(table))
            made.append(table)
        yield
        for table in made:
            owner.execute(sql.SQL("DROP TABLE {}").format(table))


def by_group(database: Database) -> Mapping[str, int]:
    """Each table by itself."""
    with psycopg.connect(database.owner) as owner:
        sizes = owner.execute(
            "SELECT schemaname, tablename, "
            "pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass) "
            "FROM pg_tables"
        ).fetchall()
    found = Counter(dict.fromkeys(("events", "state", "views", "other"), 0))
    for schema, name, size in sizes:
        if schema == "views":
            found["views"] += size
        elif schema == "ledger" and name.startswith("events"):
            found["events"] += size
        elif schema == "ledger":
            found["state" if name in STATE else "other"] += size
    return found


@pytest.fixture(scope="module")
def database(server: str) -> Iterator[Database]:
    with new_database(server) as made:
        yield made


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_any(
    tables=st.lists(
        st.tuples(st.sampled_from(SCHEMAS), st.sampled_from(NAMES), st.integers(0, 2000)),
        max_size=5,
        unique_by=lambda each: each[:2],
    )
)
def test_sizes_are_those_of_the_tables_of_each_group(
    database: Database, tables: list[tuple[str, str, int]]
) -> None:
    with with_tables(database, tables):
        found = asked(database, lambda queries: queries.figures(T0)).sizes
        assert found == by_group(database)


@given_any(waiters=st.lists(st.sampled_from(["append", "other", "neighbour"]), max_size=5))
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_waits_for_the_append_lock_is_told_and_since_when(
    server: str, database: Database, waiters: list[str]
) -> None:
    """Among those who wait for another lock, or for that of another ledger."""
    statements = {"append": APPENDS, "other": "SELECT pg_advisory_xact_lock(1)"}
    with (
        new_database(server) as neighbour,
        psycopg.connect(database.owner, autocommit=True) as looks,
        ThreadPoolExecutor() as threads,
        ExitStack() as stack,
    ):
        for holder in (database, neighbour):
            connection = stack.enter_context(psycopg.connect(holder.owner))
            for statement in statements.values():
                connection.execute(statement.encode())
        assert asked(database, lambda queries: queries.now()) == (None, 0, 0.0)
        since: dict[str, list[datetime]] = {"append": [], "other": [], "neighbour": []}
        for waiter in waiters:
            there = neighbour if waiter == "neighbour" else database
            connection = psycopg.connect(there.owner)
            stack.callback(connection.close)
            statement = statements.get(waiter, APPENDS)
            threads.submit(connection.execute, statement.encode())
            stack.callback(connection.cancel)
            since[waiter].append(_waits_since(looks, connection.info.backend_pid))
        before = _seconds_since(looks, since["append"])
        found = asked(database, lambda queries: queries.now())
        assert found.lock_waiters == len(since["append"])
        assert before <= found.longest_wait_s <= _seconds_since(looks, since["append"])


def _waits_since(looks: psycopg.Connection, pid: int) -> datetime:
    asking = "SELECT waitstart FROM pg_locks WHERE pid = %s AND waitstart IS NOT NULL"
    found: list[datetime] = []

    def is_waiting() -> bool:
        found.extend(at for (at,) in looks.execute(asking, [pid]))
        return bool(found)

    until(is_waiting, what="the wait")
    return found[0]


def _seconds_since(looks: psycopg.Connection, instants: Sequence[datetime]) -> float:
    row = looks.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return max(((now - at).total_seconds() for at in instants), default=0.0)


def test_the_age_is_that_of_the_newest_event(server: str) -> None:
    with new_database(server) as database, psycopg.connect(database.owner) as looks:
        for number, (event, _) in enumerate([created(), used(T0), used(T0)]):
            at = datetime.now(UTC) - timedelta(days=3 - number)
            given(database, (TOKEN_ID, event, at), after=number)
            before = _seconds_since(looks, [at])
            age = asked(database, lambda queries: queries.now()).newest_event_age_s
            assert age is not None
            assert before <= age <= _seconds_since(looks, [at])

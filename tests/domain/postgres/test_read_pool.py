"""What a connection for reads forgets, and when."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.errors import SharedSession, StoreReadOnly, StoreUnavailable
from domain.postgres import read_pool
from domain.postgres.connection import IDLED_S
from domain.postgres.read_pool import ReadPool
from tests.conftest import Database
from tests.faults.proxy import open_proxy

_FIND: Any = "SELECT id FROM views.things WHERE kind = %s AND id > %s ORDER BY id LIMIT 10"


@pytest.mark.parametrize(("kept_s", "is_made_anew"), [(0.0, True), (3600.0, False)])
def test_a_plan_of_another_second_is_made_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch, kept_s: float, *, is_made_anew: bool
) -> None:
    """C15: what was planned while a table was empty is not how it is read when it is full."""
    monkeypatch.setattr(read_pool, "PLANS_KEPT_S", kept_s)

    async def main() -> str:
        pool = ReadPool(database.app, size=1)
        try:
            async with pool.connection() as connection:
                await connection.execute(
                    "CREATE TABLE views.things (id int PRIMARY KEY, kind text NOT NULL);"
                    "CREATE INDEX things_kind ON views.things (kind, id)"
                )
            await pool.fetch(_FIND, ["none", 0])
            async with pool.connection() as connection:
                await connection.execute(
                    "INSERT INTO views.things SELECT n, 'kind ' || n % 10 "
                    "FROM generate_series(1, 20000) n"
                )
            await pool.fetch(_FIND, ["none", 0])
            return await _estimate(pool)
        finally:
            await pool.close()

    plan = asyncio.run(main())
    assert ("rows=10 " in plan) is is_made_anew, plan


async def _estimate(pool: ReadPool) -> str:
    async with pool.connection() as connection:
        found = await connection.execute(
            "SELECT name FROM pg_prepared_statements WHERE statement ~ 'views.things WHERE'"
        )
        ((name,),) = await found.fetchall()
        cursor = await connection.execute(f"EXPLAIN EXECUTE {name}('none', 0)".encode())
        return "\n".join(line for (line,) in await cursor.fetchall())


def test_a_connection_with_many_statements_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server keeps each for as long as the connection."""
    monkeypatch.setattr(read_pool, "STATEMENTS_MAX", 5)

    async def main() -> list[int]:
        pool = ReadPool(database.app, size=1)
        statements = [f"SELECT pg_backend_pid() WHERE {number} >= 0" for number in range(12)]
        try:
            return [pid for each in statements for (pid,) in await pool.fetch(each)]
        finally:
            await pool.close()

    pids = asyncio.run(main())
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5, 5, 2]


@pytest.mark.parametrize("reads", [1, 4])
def test_a_connection_that_idled_and_is_never_answered_is_not_seen(
    database: Database, reads: int
) -> None:
    """A pooler or a proxy holds it, and has lost what is behind it."""

    async def main() -> None:
        async with open_proxy(database.app) as proxy:
            pool = ReadPool(proxy.conninfo, size=reads)
            try:
                asks = [pool.fetch("SELECT 1, pg_sleep(0.05)::text") for _ in range(reads)]
                await asyncio.gather(*asks)
                for pooled in pool._idle:
                    pooled.planned_at -= IDLED_S
                proxy.black_hole()
                found = await asyncio.gather(*(pool.fetch("SELECT 1") for _ in range(reads)))
                assert found == [[(1,)]] * reads
            finally:
                await pool.close()

    asyncio.run(main())


@pytest.mark.parametrize("asked_before", [0, 1, 2])
def test_who_leaves_as_the_answer_comes_leaves_the_connection_as_good_as_before(
    database: Database, asked_before: int
) -> None:
    """Whichever of its answers has come by then: that it is prepared, or the rows."""

    async def leave(pool: ReadPool, statement: str, *, answer: int) -> None:
        (pooled,) = pool._idle
        connection = pooled.connection
        asking = asyncio.create_task(pool.fetch(statement))
        came: set[int] = set()  # answers; the task has not heard of the last one yet
        kept = []
        while len(came) < answer and not asking.done():
            await asyncio.sleep(0)
            if connection._answer is not None and connection._answer.done():
                kept.append(connection._answer)
                came.add(id(connection._answer))
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    async def main() -> None:
        pool = ReadPool(database.app, size=1)
        try:
            await pool.fetch("SELECT 0")
            for answer in (1, 2):
                statement = f"SELECT {answer}"
                for _ in range(asked_before):
                    await pool.fetch(statement)
                before = list(pool._idle)
                await leave(pool, statement, answer=answer)
                for _ in range(3):
                    assert await pool.fetch(statement) == [(answer,)]
                assert (pool._slots, pool._idle) == (1, before)
        finally:
            await pool.close()

    asyncio.run(main())


_WITHIN_S: Final = 0.8
"""Half of what the server itself works on a read for."""
_END: Any = "SELECT {}(pid) FROM pg_stat_activity WHERE query = %s AND state = 'active'"


@pytest.mark.parametrize(
    ("ends", "is_asked_once_more"), [("pg_terminate_backend", True), ("pg_cancel_backend", False)]
)
def test_only_what_a_lost_connection_was_asked_is_asked_once_more_and_in_the_same_time(
    database: Database, ends: str, *, is_asked_once_more: bool
) -> None:
    """What the server gave up on it would give up on again; and a second try has no time of its
    own.
    """
    statement = "SELECT pg_sleep(8)"

    async def main() -> float:
        loop, pool = asyncio.get_running_loop(), ReadPool(database.app, timeout_s=_WITHIN_S)
        async with await psycopg.AsyncConnection.connect(database.owner, autocommit=True) as owner:
            try:
                began_at = loop.time()
                asking = asyncio.create_task(pool.fetch(statement))
                while not await (
                    await owner.execute(_END.format(ends), [statement], prepare=False)
                ).fetchall():
                    await asyncio.sleep(0.01)
                with pytest.raises(StoreUnavailable):
                    await asking
                return loop.time() - began_at
            finally:
                await pool.close()

    took_s = asyncio.run(main())
    assert is_asked_once_more == (took_s > _WITHIN_S * 0.9)
    assert took_s < 1.6 * _WITHIN_S


def test_what_is_given_back_to_a_closed_pool_is_closed(database: Database) -> None:
    """Nobody would ever close it."""

    async def story() -> None:
        pool = ReadPool(database.app, size=2)
        async with pool.connection() as lent:
            await pool.close()
            await lent.execute("SELECT 1")
        assert (lent.closed, pool._idle) == (True, [])

    asyncio.run(story())


def test_a_connection_in_the_middle_of_something_is_lent_to_nobody(database: Database) -> None:
    """Its snapshot would be of the past, and its locks another's."""

    async def story() -> None:
        pool = ReadPool(database.app, size=1)
        try:
            async with pool.connection() as lent:
                await lent.execute("BEGIN")
            assert lent.closed
        finally:
            await pool.close()

    asyncio.run(story())


def test_the_second_try_is_over_a_connection_that_is_made_for_it(database: Database) -> None:
    """Whatever ended one that was kept has ended those beside it, too."""

    async def story() -> None:
        async with open_proxy(database.app) as proxy:
            pool = ReadPool(proxy.conninfo, size=3)
            try:
                asks = [pool.fetch("SELECT 1, pg_sleep(0.05)::text") for _ in range(pool.size)]
                await asyncio.gather(*asks)
                for pooled in pool._idle:
                    pooled.planned_at -= IDLED_S
                proxy.black_hole()
                assert len(pool._idle) == pool.size
                assert await pool.fetch("SELECT 1") == [(1,)]
            finally:
                await pool.close()

    asyncio.run(story())


@pytest.mark.parametrize("is_granted", [False, True])
def test_who_leaves_as_the_wait_ends_leaves_as_many_places_as_there_were(
    database: Database, *, is_granted: bool
) -> None:
    """It ends by a place that has come, or because none did in time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pool = ReadPool(database.app, size=1, timeout_s=0.05)
        held = await pool.take()
        waits = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        if is_granted:
            await pool.give_back(held, is_lost=False)
            waits.cancel()
        else:
            loop.call_later(pool.timeout_s, waits.cancel)
            time.sleep(2 * pool.timeout_s)  # so that both are due at once
        with pytest.raises(asyncio.CancelledError):
            await waits
        if is_granted:
            held = await pool.take()
        with pytest.raises(StoreUnavailable, match="became free"):
            await pool.take()
        await pool.give_back(held, is_lost=False)
        await pool.close()

    asyncio.run(main())


def test_a_place_is_free_again_where_no_connection_was_made(database: Database) -> None:
    """A database that is away takes no place from who asks when it is back."""
    nobody = make_conninfo(database.app, host="127.0.0.1", port=1)

    async def story() -> None:
        pool = ReadPool(nobody, size=1, timeout_s=0.3)
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as refused:
                await pool.fetch("SELECT 1")
            assert "became free" not in str(refused.value)
        assert pool._slots == 1

    asyncio.run(story())


def test_no_connection_of_a_server_that_was_left_is_kept_or_lent(database: Database) -> None:
    async def story() -> None:
        pool = ReadPool(database.app, size=2)
        try:
            async with pool.connection(), pool.connection():
                pass
            async with pool.connection() as lent:
                (idle,) = (pooled.connection for pooled in pool._idle)
                pool.primary.leave()
            assert lent.closed
            async with pool.connection() as fresh:
                assert fresh not in {idle, lent}
            assert idle.closed
        finally:
            await pool.close()

    asyncio.run(story())


def test_what_else_ends_a_read_is_told_though_its_server_takes_no_writes(
    database: Database,
) -> None:
    """A caller who no longer waits has left, whatever became of the server."""

    async def read(pool: ReadPool, error: BaseException | None) -> None:
        async with pool.connection() as lent:
            await lent.execute("SET default_transaction_read_only = on")
            if error is not None:
                raise error

    async def story() -> None:
        pool = ReadPool(database.app, size=1)
        with pytest.raises(asyncio.CancelledError):
            await read(pool, asyncio.CancelledError())
        assert pool._idle == []
        with pytest.raises(StoreReadOnly):
            await read(pool, None)
        await pool.close()

    asyncio.run(story())


def test_a_session_that_is_another_one_is_lent_to_nobody(database: Database) -> None:
    async def story() -> None:
        pool = ReadPool(database.app, size=1)
        with pytest.raises(SharedSession):
            async with pool.connection() as lent:
                await lent.execute("EXECUTE what_nobody_has_prepared")
        assert (lent.closed, pool._idle, pool._slots) == (True, [], 1)
        await pool.close()

    asyncio.run(story())

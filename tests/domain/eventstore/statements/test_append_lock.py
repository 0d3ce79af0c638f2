"""What holds of every statement that takes the append lock, whichever it is."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from time import perf_counter, sleep
from typing import Any, Final, LiteralString, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore import append
from domain.postgres.sql_file import statements
from tests.conftest import PEPPER, Database, new_database, now, open_ledger
from tests.service import until

SKIP: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")["skip_positions"]
UNCONFIRMED: Final = {"off", "local"}
LEAST_WAIT_S: Final = 0.02
WAITERS: Final[LiteralString] = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"


class Asking:
    """A connection that appends, in transactions that the test opens and ends."""

    def __init__(self, connection: psycopg.Connection[Any], digest: bytes) -> None:
        self.connection, self._digest = connection, digest

    def lock(self) -> int | None:
        """Returns how many microseconds it waited."""
        ((_, waited_us, _),) = self.connection.execute(append.LOCK).fetchall()
        return int(waited_us)

    def record_uses(self) -> int | None:
        """Returns how many microseconds it waited, None where it did not."""
        cursor = psycopg.RawCursor(self.connection)
        uses = [[self._digest], [uuid4()], [1], [b'{"count":1}']]
        ((*_, waited_us),) = cursor.execute(append.RECORD_USES, [now(), *uses]).fetchall()
        return None if waited_us is None else int(waited_us)

    def may_append(self) -> None:
        self.connection.execute(append.MAY_APPEND)

    def skip_positions(self) -> None:
        self.connection.execute(SKIP, [0])


Way = Callable[[Asking], int | None]
APPENDING: Final[tuple[Way, ...]] = (Asking.lock, Asking.record_uses)
WAYS: Final[tuple[Way, ...]] = (*APPENDING, Asking.may_append, Asking.skip_positions)


def name(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator["Ledger"]:
    async def create(database: Database) -> list[bytes]:
        async with open_ledger(database.app) as opened:
            created = [
                await opened.create_scim_token(NewScimToken(uuid4(), "Okta"), by=Operator(uuid4()))
                for _ in range(2)
            ]
        return [PEPPER.digest(secret).value for _, secret in created]

    with new_database(server) as database:
        yield Ledger(database, asyncio.run(create(database)))


class Ledger(NamedTuple):
    """digests: of two good tokens, so that no row is between two who use one each."""

    database: Database
    digests: list[bytes]

    @contextmanager
    def asking(self, *, place: int = 0) -> Iterator[Asking]:
        with psycopg.connect(self.database.app) as connection:
            yield Asking(connection, self.digests[place])
            connection.rollback()


@pytest.mark.parametrize(("holds", "asks"), [*product(WAYS, WAYS)], ids=name)
def test_each_excludes_every_other(ledger: Ledger, holds: Way, asks: Way) -> None:
    with ledger.asking() as holder, ledger.asking(place=1) as asker:
        holds(holder)
        asker.connection.execute("SET LOCAL lock_timeout = '5ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            asks(asker)
        holder.connection.rollback()
        asker.connection.rollback()
        asks(asker)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("asks", WAYS, ids=name)
def test_under_another_isolation_it_gets_no_lock(ledger: Ledger, asks: Way, level: str) -> None:
    """B2: also where somebody appends by another path than ours."""
    refused = pytest.raises(
        psycopg.errors.ActiveSqlTransaction, match=f"read committed, not {level.lower()}"
    )
    with ledger.asking() as asker, refused:
        asker.connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
        asks(asker)


@pytest.mark.parametrize("asks", APPENDING, ids=name)
def test_its_commit_is_confirmed_whatever_the_session_states(ledger: Ledger, asks: Way) -> None:
    """A pooler gives it a session that states another thing; a stronger one stays."""
    with ledger.asking() as asker:
        ((stated,),) = asker.connection.execute(
            "SELECT enumvals FROM pg_settings WHERE name = 'synchronous_commit'"
        ).fetchall()
        assert set(stated) > UNCONFIRMED
        for mode in stated:
            asker.connection.execute("SELECT set_config('synchronous_commit', %s, false)", [mode])
            asker.connection.commit()
            asks(asker)
            expected = "on" if mode in UNCONFIRMED else mode
            found = asker.connection.execute("SHOW synchronous_commit").fetchone()
            asker.connection.rollback()
            after = asker.connection.execute("SHOW synchronous_commit").fetchone()
            assert (mode, found, after) == (mode, (expected,), (mode,))


@pytest.mark.parametrize("asks", APPENDING, ids=name)
def test_it_says_how_long_it_waited_and_no_later_one_says_so_again(
    ledger: Ledger, asks: Way
) -> None:
    with ledger.asking() as holder, ledger.asking(place=1) as asker, ThreadPoolExecutor() as beside:
        holder.lock()
        began_at = perf_counter()
        waits = beside.submit(asks, asker)
        pid = [asker.connection.info.backend_pid]
        until(lambda: holder.connection.execute(WAITERS, pid).fetchone() == (1,), what="a wait")
        sleep(LEAST_WAIT_S)
        holder.connection.rollback()
        waited_us = waits.result()
        longest_us = (perf_counter() - began_at) * 1_000_000
        assert waited_us is not None
        assert LEAST_WAIT_S * 1_000_000 <= waited_us <= longest_us
        asker.connection.commit()
        began_at = perf_counter()
        again_us = asks(asker) or 0
        assert again_us <= (perf_counter() - began_at) * 1_000_000

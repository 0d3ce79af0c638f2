"""Whoever waits for the next event hears of it, whatever the database refused meanwhile."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg.rows import TupleRow

from domain.postgres.read_pool import ReadPool
from projections.follow.ledger_head import LedgerHeadWatch
from tests.conftest import APP_ROLE, Database, Run
from tests.projections.warnings.weeks import Weeks, weeks

REFUSALS: Final[Mapping[str, tuple[LiteralString, LiteralString]]] = {
    "no right": (
        f"REVOKE SELECT ON ledger.events FROM {APP_ROLE}",
        f"GRANT SELECT ON ledger.events TO {APP_ROLE}",
    ),
    "no schema": (
        f"REVOKE USAGE ON SCHEMA ledger FROM {APP_ROLE}",
        f"GRANT USAGE ON SCHEMA ledger TO {APP_ROLE}",
    ),
    "no table": (
        "ALTER TABLE ledger.events RENAME TO away",
        "ALTER TABLE ledger.away RENAME TO events",
    ),
}
WITHIN_S: Final = 20


class Watched(ReadPool):
    """A pool that tells of a failure; planted: it raises what `breaks_with` names, once.

    has_failed: since the last time that somebody cleared it.
    """

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.has_failed = asyncio.Event()
        self.breaks_with: Exception | None = None

    async def fetch(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[TupleRow]:
        breaks_with, self.breaks_with = self.breaks_with, None
        if breaks_with is not None:
            self.has_failed.set()
            raise breaks_with
        try:
            return await super().fetch(statement, parameters)
        except Exception:
            self.has_failed.set()
            raise


async def hears_of_an_event(ledger: Weeks, heads: LedgerHeadWatch) -> bool:
    at = await heads.now()
    waiting = asyncio.create_task(heads.beyond(at, timeout_s=WITHIN_S))
    await ledger.create()
    return await waiting


@pytest.mark.parametrize("refusal", REFUSALS)
def test_who_waits_while_the_database_refuses_hears_of_what_comes_then(
    database: Database, run: Run, refusal: str
) -> None:
    refuse, allow = REFUSALS[refusal]

    async def main() -> None:
        pool = Watched(database.app)
        async with weeks(database) as ledger:
            heads = LedgerHeadWatch(pool)
            at = await heads.now()
            waiting = asyncio.create_task(heads.beyond(at, timeout_s=WITHIN_S))
            with psycopg.connect(database.owner, autocommit=True) as owner:
                owner.execute(refuse)
                await asyncio.wait_for(pool.has_failed.wait(), WITHIN_S)
                owner.execute(allow)
            await ledger.create()
            assert await waiting
            assert await hears_of_an_event(ledger, heads)
        await pool.close()

    run(main())


def test_a_mistake_of_ours_ends_one_poll_and_not_the_next(database: Database, run: Run) -> None:
    async def main() -> None:
        # What nobody awaits is reported to the loop, as of every task that breaks.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        pool = Watched(database.app)
        async with weeks(database) as ledger:
            heads = LedgerHeadWatch(pool)
            pool.breaks_with = RuntimeError("planted")
            waiting = asyncio.create_task(heads.beyond(0, timeout_s=0.5))
            await asyncio.wait_for(pool.has_failed.wait(), WITHIN_S)
            await ledger.create()
            assert not await waiting
            assert await hears_of_an_event(ledger, heads)
        await pool.close()

    run(main())

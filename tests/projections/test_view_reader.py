"""Readers of a view while its versions come and go."""

import asyncio
from typing import Final

import psycopg
import pytest

from domain.errors import ProjectionStopped
from domain.postgres.read_pool import ReadPool
from projections.rebuild.run import rebuild
from projections.rebuild.shapes import drop_old
from projections.registry import PROJECTIONS
from projections.rows_by_key import RowsByKey
from projections.scim_tokens import view as scim_tokens
from projections.view_reader import ViewReader
from tests.conftest import Database, Run, catch_up
from tests.domain.scenario import created
from tests.projections.given_events import record

READERS: Final = 6
"""More than the connections that they share."""
ALL: Final = "SELECT true, name FROM {table}"
BY_KEY: Final = "SELECT true, id, name FROM {table} WHERE id = ANY(%s)"


@pytest.mark.parametrize("pages", [0, 1, READERS])
def test_whoever_reads_after_a_switch_is_answered_although_the_old_table_is_gone(
    database: Database, run: Run, pages: int
) -> None:
    """However many ask at once, by one statement each or by one for all of them."""
    token_id = record(database, created())
    catch_up(database)

    async def read() -> None:
        pool = ReadPool(database.app)
        view = ViewReader(pool, scim_tokens.PROJECTION)
        by_key = RowsByKey(view, BY_KEY)

        async def page() -> str:
            ((name,),) = await view.rows(ALL, [], ledger_head=0)
            return str(name)

        async def one() -> str:
            found = await by_key.find(token_id, ledger_head=0)
            assert found is not None
            return str(found[0])

        async def all_at_once() -> set[str]:
            asked = [page() for _ in range(pages)] + [one() for _ in range(READERS - pages)]
            return set(await asyncio.gather(*asked))

        try:
            before = await all_at_once()
            with psycopg.connect(database.app, autocommit=True) as connection:
                rebuild(connection, scim_tokens.PROJECTION)
                assert drop_old(connection, PROJECTIONS) == ["views.scim_tokens_v1"]
            assert await all_at_once() == before
        finally:
            await pool.close()

    run(read())


@pytest.mark.parametrize("readers", [1, READERS])
def test_of_a_table_that_is_gone_for_good_every_reader_is_told(
    database: Database, run: Run, readers: int
) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("DROP TABLE views.scim_tokens_v1")

    async def read() -> None:
        pool = ReadPool(database.app)
        view = ViewReader(pool, scim_tokens.PROJECTION)
        try:
            told = await asyncio.gather(
                *(view.rows(ALL, [], ledger_head=0) for _ in range(readers)),
                return_exceptions=True,
            )
        finally:
            await pool.close()
        assert {type(each) for each in told} == {ProjectionStopped}

    run(read())

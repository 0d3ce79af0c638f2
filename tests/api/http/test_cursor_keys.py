"""Pages that are under way when a key is added to the pepper go on."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from api.errors import InvalidCursor
from api.http.cursor import Cursors
from domain.errors import PepperMismatch
from domain.eventstore.lookups.page_end import PageEnd
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.eventstore.peppers.newer_keys import GOOD_FOR_S
from domain.ledger import TokenLedger
from domain.secret import Pepper
from tests.conftest import CLOCK_AND_IDS, Database

OLD, BOTH = Pepper([b"a" * 32]), Pepper([b"a" * 32, b"b" * 32])
PLACE = PageEnd(datetime(2021, 8, 10, 10, tzinfo=UTC), UUID(int=7))


def of(ledger: TokenLedger) -> Cursors:
    return Cursors(ledger.pepper.derived("cursor"), require_all_keys=ledger.require_all_keys)


def test_a_cursor_of_before_is_read_and_one_of_a_newer_key_is_not_said_to_be_wrong(
    database: Database,
) -> None:
    async def main() -> None:
        async with (
            TokenLedger(database.app, pepper=OLD, clock_and_ids=CLOCK_AND_IDS) as running,
            TokenLedger(database.app, pepper=BOTH, clock_and_ids=CLOCK_AND_IDS) as new,
        ):
            before, after = (of(each).encode(PLACE, scope="") for each in (running, new))
            with pytest.raises(InvalidCursor):
                await of(running).page_end("AAAA", scope="")
            with psycopg.connect(database.app) as connection:
                record_pepper(connection, BOTH)
            await asyncio.sleep(GOOD_FOR_S)
            for cursor in (before, after):
                assert await of(new).page_end(cursor, scope="") == PLACE
            assert await of(running).page_end(before, scope="") == PLACE
            assert await of(running).page_end("", scope="") is None
            with pytest.raises(PepperMismatch, match="restart it with all"):
                await of(running).page_end(after, scope="")
            with pytest.raises(InvalidCursor):
                await of(new).page_end("AAAA", scope="")
            position = of(running).encode_position(5, scope="x")
            assert await of(new).position(position, scope="x") == 5

    with psycopg.connect(database.app) as connection:
        record_pepper(connection, OLD)
    asyncio.run(main())

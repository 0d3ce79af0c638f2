"""Whatever column of what is kept beside the events is wrong, `verify` finds it and `repair states`
mends it.
"""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.peppers import rekeyer
from domain.eventstore.repair import repair_states
from projections.ledger_check import check_ledger
from tests.conftest import Database, new_database
from tests.domain.eventstore.peppers import test_rekeying_of_api_tokens as api_tokens
from tests.domain.eventstore.peppers.test_rekeying import BOTH, IDP, of, rotated, use_until_rekeyed

OTHERS: Final = {
    "bigint": "{} + 1",
    "boolean": "NOT {}",
    "bytea": """convert_to(
        replace(convert_from({}, 'UTF8'), '"created_at":"20', '"created_at":"19'), 'UTF8'
    )""",
    "text": "'another'",
    "timestamp with time zone": "'2020-01-01Z'",
    "inet[]": "CASE WHEN {} IS NULL THEN ARRAY['192.0.2.0/24'::inet] END",
    "uuid": "gen_random_uuid()",
    "uuid[]": "ARRAY[gen_random_uuid()]",
}
"""By the type of a column another value than it has."""
KEYS: Final = {
    "stream_heads": ("originator_id", "chapter"),  # the next event sets a head's chapter
    "aggregates": ("originator_id",),
    "api_tokens": ("originator_id",),
    "secrets": ("digest",),
}
"""The tables, and what makes a row that no event tells of: that one stays."""
COLUMNS: Final = """
    SELECT relname, attname, format_type(atttypid, atttypmod)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'ledger'::regnamespace AND relname = ANY(%s)
        AND attnum > 0 AND NOT attisdropped
"""
BY: Final = Operator(uuid4())


async def fill(database: Database) -> None:
    """A token and an API token whose secrets were digested anew, one of them let go since."""
    async with rotated(database) as (ledger, token_id, secret):
        await use_until_rekeyed(ledger, token_id, secret)
        await ledger.rotate_scim_token(token_id, overlap=timedelta(0), by=BY)
        token, other = await ledger.create_scim_token(NewScimToken(uuid4(), "Entra"), by=BY)
        await ledger.authenticate(other, IDP)
        await ledger.allow_networks(token.id, ["192.0.2.0/24"], by=BY)
        await ledger.create_api_token(api_tokens.ASK)
    async with of(database, BOTH) as ledger:
        await ledger.revoke_scim_token(token_id, by=BY)


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    with new_database(server) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rekeyer, "EVERY_S", 0.0)
        patch.setattr(rekeyer, "REST_S", 0.0)
        asyncio.run(fill(database))
        yield database


def rows(owner: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All that is kept beside the events."""
    return {
        table: owner.execute(
            sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier("ledger", table))
        ).fetchall()
        for table in KEYS
    }


def test_each_wrong_column_is_found_and_mended(ledger: Database) -> None:
    with psycopg.connect(ledger.owner) as owner:
        # A use moves the head alone: what a state says of it is as old as the state.
        repair_states(owner, by="root@db1", reason="a test")
        before = rows(owner)
        columns = owner.execute(COLUMNS, [[*KEYS]]).fetchall()
    assert any("shown_as" in column for column in columns)
    for table, column, type_ in columns:
        if column in KEYS[table]:
            continue
        other = OTHERS[type_].format(column)
        with psycopg.connect(ledger.owner) as owner:
            owner.execute(f"UPDATE ledger.{table} SET {column} = {other}".encode())
            assert rows(owner) != before, (table, column)
        with psycopg.connect(ledger.app, autocommit=True) as app:
            assert check_ledger(app).damage is not None, (table, column)
        with psycopg.connect(ledger.owner) as owner:
            repair_states(owner, by="root@db1", reason="a test")
            assert rows(owner) == before, (table, column)
    with psycopg.connect(ledger.app, autocommit=True) as app:
        assert check_ledger(app).damage is None

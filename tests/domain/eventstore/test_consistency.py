"""The check of a ledger's consistency notices each way in which one could be wrong."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.scim_token.events import Presentation
from tests.conftest import Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent

SPOILT = {
    "a use is missing": "DELETE FROM ledger.events WHERE originator_version = 2",
    "a version is skipped": "UPDATE ledger.events SET originator_version = 4 "
    "WHERE originator_version = 3",
    "time goes back": "UPDATE ledger.events SET at = at - interval '1 hour' "
    "WHERE originator_version = 3",
    "a head is behind": "UPDATE ledger.stream_heads SET version = version - 1",
    "uses are lost": "UPDATE ledger.stream_heads SET uses = uses - 1",
    "a head is too many": "INSERT INTO ledger.stream_heads (originator_id, version) "
    "VALUES (gen_random_uuid(), 1)",
    "a state is missing": "DELETE FROM ledger.aggregates",
    "a state differs": """UPDATE ledger.aggregates
        SET state = convert_to(replace(convert_from(state, 'UTF8'), 'Okta', 'Entra'), 'UTF8')""",
    "a revoked secret is good": "UPDATE ledger.secrets SET good_until = 'infinity'",
    "a secret is missing": "DELETE FROM ledger.secrets",
    "a secret speaks for another team": "UPDATE ledger.secrets SET owner_id = gen_random_uuid()",
}


@pytest.fixture
def used_and_revoked(database: Database) -> Database:
    async def fill() -> None:
        async with open_ledger(database.app) as ledger:
            token, secret = await ledger.create_scim_token(
                NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
            )
            await ledger.authenticate(secret, Presentation(door="scim"))
            await ledger.revoke_scim_token(token.id, by=Operator())

    asyncio.run(fill())
    return database


def test_every_way_to_be_wrong_is_noticed(used_and_revoked: Database) -> None:
    """One database for all: each spoils it in a transaction's place and puts it right again."""
    assert_consistent(used_and_revoked)
    tables = ("events", "stream_heads", "aggregates", "secrets")
    with psycopg.connect(used_and_revoked.owner, autocommit=True) as owner:
        for table in tables:
            owner.execute(f"CREATE TABLE ledger.good_{table} AS TABLE ledger.{table}")
        for statement in SPOILT.values():
            assert owner.execute(statement).rowcount == 1
            with pytest.raises(AssertionError):
                assert_consistent(used_and_revoked)
            for table in tables:
                owner.execute(f"TRUNCATE ledger.{table}")
                owner.execute(f"INSERT INTO ledger.{table} TABLE ledger.good_{table}")
    assert_consistent(used_and_revoked)

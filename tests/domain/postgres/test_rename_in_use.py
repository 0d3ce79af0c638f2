"""What `domain/eventstore/migrations/README.md` says of a rename:
nobody who is running notices it.
"""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import StoreUnavailable
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.secret import Secret
from tests.conftest import APP_ROLE, Database, open_ledger

SCIM: Final = Presentation(door="scim")
RENAME: Final = "ALTER TABLE ledger.heads RENAME TO renamed"
KEEP: Final = f"""
    CREATE VIEW ledger.heads AS SELECT ctid, * FROM ledger.renamed;
    GRANT SELECT, INSERT, UPDATE ON ledger.heads TO {APP_ROLE}
"""


def through_a_rename(database: Database, statements: str) -> int:
    """Create a token, use it, rename, use, rotate and use it; its version after the rotation."""

    async def play() -> int:
        async with open_ledger(database.app) as ledger:
            new = NewScimToken(uuid4(), "in use")
            token, secret = await ledger.create_scim_token(new, by=Operator(uuid4()))
            await use(ledger, secret)
            await asyncio.to_thread(migrate, database, statements)
            await use(ledger, secret)
            rotated, secret = await ledger.rotate_scim_token(
                token.id, overlap=timedelta(0), by=Operator(uuid4())
            )
            await use(ledger, secret)
            return rotated.version

    return asyncio.run(play())


async def use(ledger: TokenLedger, secret: Secret) -> None:
    assert (await ledger.authenticate(secret, SCIM)).use_id is not None


def migrate(database: Database, statements: str) -> None:
    with psycopg.connect(database.owner) as connection:
        connection.execute(statements.encode())


def test_a_table_is_renamed_under_processes_that_go_on(database: Database) -> None:
    assert through_a_rename(database, f"{RENAME}; {KEEP}") == 4


def test_planted_a_rename_without_the_old_name_is_noticed(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        through_a_rename(database, RENAME)

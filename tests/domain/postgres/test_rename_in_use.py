"""What `domain/eventstore/migrations/README.md` says of a rename:
nobody who is running notices it.

The release before itself is run beside this one in `tests/upgrade`.
"""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import StoreUnavailable
from domain.eventstore.append import STORE
from domain.ledger import TokenLedger
from domain.postgres.migrate import available, migrate
from domain.scim_token.events import Presentation
from domain.secret import Secret
from tests.conftest import APP_ROLE, Database, open_ledger

SCIM: Final = Presentation(door="scim")
RENAME: Final = "ALTER TABLE ledger.stream_heads RENAME TO renamed"
KEEP: Final = f"""
    CREATE VIEW ledger.stream_heads AS SELECT ctid, * FROM ledger.renamed;
    GRANT SELECT, INSERT, UPDATE ON ledger.stream_heads TO {APP_ROLE}
"""
STREAM_HEADS: Final = 9
"""The migration that renamed `ledger.heads`."""
RIGHTS: Final = f"""
    GRANT USAGE ON SCHEMA ledger TO {APP_ROLE};
    GRANT SELECT, INSERT, UPDATE ON ledger.heads, ledger.aggregates, ledger.secrets TO {APP_ROLE};
    GRANT SELECT, INSERT ON ledger.events TO {APP_ROLE}
"""
"""What the app role has in the release before."""
NAMED_SINCE: Final = "ALTER TABLE ledger.secrets {} COLUMN networks {}"
"""The statement is today's, but for the table's name: so is what else it names, since 0024."""


def through_a_rename(database: Database, statements: str) -> int:
    """Create a token, use it, rename, use, rotate and use it; its version after the rotation."""

    async def play() -> int:
        async with open_ledger(database.app) as ledger:
            new = NewScimToken(uuid4(), "in use")
            token, secret = await ledger.create_scim_token(new, by=Operator(uuid4()))
            await use(ledger, secret)
            await asyncio.to_thread(execute, database.owner, statements)
            await use(ledger, secret)
            rotated, secret = await ledger.rotate_scim_token(
                token.id, overlap=timedelta(0), by=Operator(uuid4())
            )
            await use(ledger, secret)
            return rotated.version

    return asyncio.run(play())


async def use(ledger: TokenLedger, secret: Secret) -> None:
    assert (await ledger.authenticate(secret, SCIM)).use_id is not None


def execute(owner: str, statements: str) -> None:
    with psycopg.connect(owner) as connection:
        connection.execute(statements.encode())


def test_a_table_is_renamed_under_processes_that_go_on(database: Database) -> None:
    assert through_a_rename(database, f"{RENAME}; {KEEP}") == 4


def test_planted_a_rename_without_the_old_name_is_noticed(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        through_a_rename(database, RENAME)


def test_prepared_statements_of_the_release_before_go_on(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name `ledger.heads`, and write through it as the app role."""
    every = available()
    before = {number: every[number] for number in every if number < STREAM_HEADS}
    monkeypatch.setattr("domain.postgres.migrate.available", lambda: before)
    migrate(empty_database, app_role=None)
    with psycopg.connect(empty_database) as owner:
        owner.execute(RIGHTS.encode())
        owner.execute(NAMED_SINCE.format("ADD", "inet[]").encode())
    stream = uuid4()
    with psycopg.connect(
        make_conninfo(empty_database, user=APP_ROLE), autocommit=True, prepare_threshold=0
    ) as process:
        store(process, stream, version=1)
        store(process, stream, version=2)
        execute(empty_database, NAMED_SINCE.format("DROP", ""))
        monkeypatch.setattr("domain.postgres.migrate.available", lambda: every)
        assert STREAM_HEADS in migrate(empty_database, app_role=APP_ROLE)
        store(process, stream, version=3)
        store(process, uuid4(), version=1)
        heads = process.execute("SELECT originator_id, version FROM ledger.stream_heads").fetchall()
    assert (stream, 3) in heads
    assert len(heads) == 2


def store(process: psycopg.Connection, stream: UUID, *, version: int) -> None:
    """The head of a stream begins or moves, as the release before stores it."""
    statement = STORE.replace("ledger.stream_heads", "ledger.heads").encode()
    none: list[object] = []
    head = [stream], [version], [None], [0]
    process.execute(statement, [*[none] * 6, *head, *[none] * 9])

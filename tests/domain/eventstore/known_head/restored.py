"""A ledger, the same ledger as it was earlier, and hosts that have known one of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.keeper import keep
from domain.eventstore.known_head.lost import close_positions, find_loss
from domain.ledger import TokenLedger
from domain.losses.declared import KnownEvent, Loss
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, new_database, open_ledger

ADA = Operator(uuid4(), name="root@db1")


def append(database: Database, count: int = 1) -> None:
    """As many events, each of a token of its own."""

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            for number in range(count):
                await ledger.create_scim_token(NewScimToken(uuid4(), f"n{number}"), by=ADA)

    asyncio.run(main())


@contextmanager
def copied(server: str, database: Database) -> Iterator[Database]:
    """Another database with what the ledger holds now: a backup, restored."""
    with new_database(server, template=str(conninfo_to_dict(database.owner)["dbname"])) as made:
        yield made


def known_by(path: Path, database: Database) -> KnownEvent:
    """A host that has seen the ledger as it is; what it knows."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        keep(connection, HeadFile(path))
    known = HeadFile(path).read()
    assert known is not None
    return known


def letting_in(database: Database, path: Path) -> TokenLedger:
    """A ledger of a process on the host with this head file."""
    return TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS, head_file=path)


def found(database: Database, known: KnownEvent | None, seen: int | None = None) -> Loss | None:
    """What the ledger lacks."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        return find_loss(connection, known, seen)


def closed(database: Database, loss: Loss) -> None:
    """The first half of a declaration."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        close_positions(connection, loss)


def declared(database: Database, loss: Loss) -> None:
    """The second half: the event alone."""

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            await ledger.declare_loss(loss, by=ADA, reason="the disk broke")

    asyncio.run(main())


def newest(database: Database) -> int:
    """The last position."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        row = connection.execute("SELECT max(notification_id) FROM ledger.events").fetchone()
    assert row is not None
    return int(row[0])

"""Tokens with all kinds of lives, for a rebuild to make again."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from operator import itemgetter
from uuid import uuid4

import msgspec
import psycopg

from domain.scim_token.events import Created, Rotated
from domain.secret import Digest
from projections.scim_tokens import view as scim_tokens
from tests.conftest import Database
from tests.domain.scenario import (
    T0,
    T1,
    T2,
    T3,
    T4,
    Given,
    created,
    refused,
    revoked,
    rotated,
    used,
)
from tests.projections.given_events import select
from tests.projections.history import Fact, given

VIEW = scim_tokens.PROJECTION
LIVES: tuple[tuple[Given, ...], ...] = (
    (created(T0), used(T1), used(T2), used(T3)),
    (created(T0), rotated(T1), used(T2), revoked(T3), refused(T4)),
    (created(T0, expires_at=T4), used(T0), used(T0), rotated(T1), used(T1)),
    (created(T0, name="プロビジョニング"),),
)


@contextmanager
def app(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        yield connection


def history(database: Database, *, rounds: int = 3) -> None:
    """Tokens with all kinds of lives, each beginning while others go on,
    and every view caught up.
    """
    facts: list[Fact] = []
    for number in range(rounds * len(LIVES)):
        token_id = uuid4()
        for event, at in LIVES[number % len(LIVES)]:
            if isinstance(event, Created | Rotated):
                own = Digest(sha256(token_id.bytes + event.topic.encode()).digest(), 1)
                event = msgspec.structs.replace(event, digest=own)  # noqa: PLW2901
            facts.append((token_id, event, at + number * timedelta(minutes=20)))
    given(database, *sorted(facts, key=itemgetter(2)))


def tables(database: Database, name: str = "scim_tokens") -> list[str]:
    return [
        table
        for (table,) in select(
            database, f"SELECT relname FROM pg_class WHERE relname ~ '^{name}_v[0-9]+$' ORDER BY 1"
        )
    ]


def indexes(database: Database, version: int) -> list[str]:
    found = select(
        database,
        "SELECT replace(indexdef, table_name, 'it') FROM (SELECT indexdef, tablename AS table_name "
        f"FROM pg_indexes WHERE tablename = 'scim_tokens_v{version}') i",
    )
    return sorted(definition.partition(" ON ")[2] for (definition,) in found)


def spoil(database: Database, statement: str) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        assert owner.execute(statement.encode()).rowcount == 1

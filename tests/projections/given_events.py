"""Events of a test, as entries of the log and in a ledger; and what the views made of them."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg

from domain.event import Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.library.factory import LedgerFactory
from domain.eventstore.library.mapper import LedgerMapper
from domain.eventstore.library.recorder import LedgerRecorder
from domain.scim_token.events import Created
from domain.secret import Digest
from projections.follow.positions import Position, all_positions
from projections.projection import LogEntry, Projection
from tests.conftest import Database
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.scenario import COMMAND_ID, TOKEN_ID, Given


def log_entries(*events: Given, token_id: UUID = TOKEN_ID, after: int = 0) -> list[LogEntry]:
    """The life of one token as the log holds it, its first event right behind `after`."""
    return [
        LogEntry(
            after + place, token_id, place, event.topic, at, COMMAND_ID, REGISTRY.encode(event)
        )
        for place, (event, at) in enumerate(events, start=1)
    ]


def rows_after(projection: Projection, *events: Given) -> dict[Any, Any]:
    """The rows that a view makes of one token's life, by key; no database."""
    rows: dict[Any, Any] = {}
    entries = [entry for entry in log_entries(*events) if entry.topic in projection.topics]
    projection.fold(rows, entries, REGISTRY)
    return rows


def row_after(projection: Projection, *events: Given) -> Any:
    """The only row."""
    (row,) = rows_after(projection, *events).values()
    return row


def record(database: Database, *events: Given, token_id: UUID | None = None) -> UUID:
    """Append the life of one token, through the recorder; its secret is its own."""
    token_id = token_id or uuid4()
    mapper = LedgerMapper(REGISTRY)
    with closing(LedgerFactory({LedgerFactory.CONNINFO: believing_any_clock(database)})) as factory:
        recorder: LedgerRecorder = factory.application_recorder()
        recorder.insert_events(
            [
                mapper.to_stored_event(Recorded(token_id, version, at, uuid4(), event))
                for version, (event, at) in enumerate(with_own_secret(events, token_id), start=1)
            ]
        )
    return token_id


def with_own_secret(events: Sequence[Given], token_id: UUID) -> list[Given]:
    """The same events, of a token with a secret that no other has."""
    return [
        (msgspec.structs.replace(event, digest=Digest(token_id.bytes * 2, 1)), at)
        if isinstance(event, Created)
        else (event, at)
        for event, at in events
    ]


def select(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """What a statement finds, to its owner."""
    with psycopg.connect(database.owner) as connection:
        return connection.execute(statement).fetchall()


def position(database: Database, name: str = "scim_tokens") -> Position:
    """Where one view stands."""
    with psycopg.connect(database.app) as connection:
        return next(each for each in all_positions(connection) if each.name == name)


def until(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait for something that other threads bring about; fail when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)

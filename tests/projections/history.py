"""Events into a ledger, rows out of a view: what the tests of the views share."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from domain.event import Event, Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from projections.follow.apply import BatchApplier
from projections.follow.positions import all_positions
from projections.follow.read_log import read
from projections.follow.view_version import PositionMoved, ViewVersion
from projections.projection import LogEntry, Projection
from projections.rebuild.run import rebuild
from projections.runner import BATCH
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, catch_up
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.scenario import COMMAND_ID

Fact = tuple[UUID, Event, datetime]
"""An event, of which aggregate, and when."""


def given(database: Database, *facts: Fact, batch: int = BATCH, after: int = 0) -> None:
    """Store events, in this order, and bring every view up to them, by so many at a time.

    after: the version that the streams have.
    """
    versions: dict[UUID, int] = defaultdict(lambda: after)
    recorded = []
    for id_, event, at in facts:
        versions[id_] += 1
        recorded.append(Recorded(id_, versions[id_], at, COMMAND_ID, event))
    ledger = TokenLedger(believing_any_clock(database), pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)
    ledger.save(*recorded)
    ledger.close()
    catch_up(database, batch=batch)


def rows(database: Database, projection: Projection, select: str) -> list[tuple[Any, ...]]:
    """Rows of the live view. select: what follows SELECT, with {table}."""
    with psycopg.connect(database.app) as connection:
        version = next(at.version for at in all_positions(connection) if at.name == projection.name)
        return connection.execute(
            f"SELECT {select}".format(table=projection.table(version)).encode()
        ).fetchall()


def content(database: Database, projection: Projection) -> Sequence[str]:
    """The live view, every row as its text, in the order of the key."""
    return [text for (text,) in rows(database, projection, "t::text FROM {table} t ORDER BY 1")]


def deliver_again(database: Database, projection: Projection) -> None:
    """Apply everything once more, as a runner does that did not learn of its commit."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        entries: list[LogEntry] = read(connection, after=0, limit=1_000_000)
        version = next(at.version for at in all_positions(connection) if at.name == projection.name)
        try:
            BatchApplier(REGISTRY).apply(
                ViewVersion(connection, projection, version), entries, after=0
            )
        except PositionMoved:
            return
        raise AssertionError("a batch was applied twice")


def rebuilt(database: Database, projection: Projection) -> Sequence[str]:
    """The content of the view after a rebuild."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        rebuild(connection, projection)
    return content(database, projection)

"""Two releases at once, the newer one with a view of another shape:
each reads its own, and both keep up.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import msgspec
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.scim_token.events import Created, Presentation, Used
from projections.follow.positions import all_positions
from projections.projection import LogEntry, Projection
from projections.rebuild import shapes
from projections.rebuild.shapes import drop_old
from projections.runner import Runner
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.row import TokenRow
from projections.view_reader import ViewReader
from tests.conftest import Database, open_ledger
from tests.projections.given_events import select, until
from tests.projections.rebuild.lives import history
from tests.turns import by_turns

OLD = scim_tokens.PROJECTION


class NewRow(TokenRow, frozen=True):
    """The newer release also counts the events of uses."""

    use_events: int = 0


def created(entry: LogEntry, event: Created) -> NewRow:
    return NewRow(**msgspec.structs.asdict(scim_tokens.created(entry, event)), use_events=0)


def used(row: NewRow, entry: LogEntry, _: None) -> NewRow:
    return msgspec.structs.replace(row, last_used_at=entry.at, use_events=row.use_events + 1)


_columns = list(OLD.columns.items())
_stored = len(OLD.row.__struct_fields__)
NEW = replace(
    OLD,
    shape=OLD.shape + 1,
    row=NewRow,
    columns=dict([*_columns[:_stored], ("use_events", "bigint NOT NULL"), *_columns[_stored:]]),
    create=created,
    evolve={**OLD.evolve, Used: used},
    last_only=None,
)


@contextmanager
def runner(database: Database, projection: Projection) -> Iterator[None]:
    """The projection process of one release."""
    stop = threading.Event()
    thread = threading.Thread(target=Runner(database.app, [projection]).run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def live_shapes(database: Database) -> dict[int, int]:
    """How far the live version of each shape is behind."""
    with psycopg.connect(database.app) as connection:
        found = all_positions(connection)
    return {at.shape: at.lag for at in found if (at.name, at.role) == (OLD.name, "live")}


@pytest.mark.parametrize(
    "is_long", by_turns([True, False], one_of=2), ids=["built in bulk", "caught up at once"]
)
def test_both_releases_answer_while_the_new_view_is_built_and_after(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    if is_long:
        monkeypatch.setattr(shapes, "BULK_FROM", 10)
    history(database)
    answers = {"old": 0, "new": 0}

    async def serve_both() -> None:
        async with open_ledger(database.app) as ledger:
            old, new = ViewReader(ledger.reads, OLD), ViewReader(ledger.reads, NEW)
            while answers["new"] < 20:
                token, secret = await ledger.create_scim_token(
                    NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                )
                await ledger.authenticate(secret, Presentation(door="scim"))
                async with ledger.reads.connection() as connection:
                    ((head,),) = await (
                        await connection.execute("SELECT max(notification_id) FROM ledger.events")
                    ).fetchall()
                rows = await old.rows(
                    "SELECT true, name FROM {table} WHERE id = %s", [token.id], ledger_head=head
                )
                assert rows == [("Okta",)]
                answers["old"] += 1
                if NEW.shape in live_shapes(database):
                    rows = await new.rows(
                        "SELECT true, use_events FROM {table} WHERE id = %s",
                        [token.id],
                        ledger_head=head,
                    )
                    assert rows == [(1,)]
                    answers["new"] += 1

    with runner(database, OLD):
        until(lambda: live_shapes(database) == {OLD.shape: 0})
        with runner(database, NEW):
            asyncio.run(serve_both())
            assert answers["old"] >= answers["new"] == 20
            with psycopg.connect(database.app, autocommit=True) as connection:
                # The older release runs still, so its view is not old yet.
                assert drop_old(connection, [NEW]) == []
    with psycopg.connect(database.app, autocommit=True) as connection:
        # Nor would the older release, taken up again, drop the newer one's.
        assert drop_old(connection, [OLD]) == []
        assert drop_old(connection, [NEW]) == ["views.scim_tokens_v1"]
    assert live_shapes(database) == {NEW.shape: 0}


def test_the_older_release_goes_on_after_the_newer_one_was_taken_back(database: Database) -> None:
    history(database)
    with runner(database, NEW):
        until(lambda: live_shapes(database).get(NEW.shape) == 0)
    with runner(database, OLD):
        history_after(database)
        until(lambda: live_shapes(database)[OLD.shape] == 0)
    with runner(database, NEW):
        until(lambda: live_shapes(database) == {OLD.shape: 0, NEW.shape: 0})
    counts = select(
        database,
        "SELECT (SELECT count(*) FROM views.scim_tokens_v1), (SELECT count(*) "
        "FROM views.scim_tokens_v2)",
    )
    assert counts[0][0] == counts[0][1] == 13


def history_after(database: Database) -> None:
    async def one_more() -> None:
        async with open_ledger(database.app) as ledger:
            await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=Operator(uuid4()))

    asyncio.run(one_more())

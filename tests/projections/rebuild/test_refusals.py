"""A rebuild that may not switch, and a write that fails: nothing is changed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import msgspec
import psycopg
import pytest

from domain.eventstore.event_registry import REGISTRY
from domain.scim_token.events import Created, Rotated
from projections.follow import read_log
from projections.follow.positions import create_version
from projections.follow.view_version import ViewVersion
from projections.projection import LogEntry, UnappliableEvent
from projections.rebuild import bulk
from projections.rebuild.requests import latest
from projections.rebuild.run import RebuildUnderway, check_view, rebuild
from projections.rebuild.steps import Progress, ViewsDiffer
from projections.registry import PROJECTIONS
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.view import rotated
from tests.conftest import Database, catch_up
from tests.domain.scenario import T4, created
from tests.projections.given_events import position, record, select
from tests.projections.rebuild.lives import VIEW, app, history, spoil, tables


class TestRefusals:
    def test_two_at_once_are_refused(self, database: Database) -> None:
        history(database)
        refusals = 0

        def second(_: Progress) -> None:
            nonlocal refusals
            with app(database) as other, pytest.raises(RebuildUnderway):
                rebuild(other, VIEW)
            refusals += 1

        with app(database) as connection:
            rebuild(connection, VIEW, report=second)
            assert refusals >= 4
            with app(database) as other:  # while the first one goes on with something else
                rebuild(other, VIEW)
            rebuild(connection, VIEW)

    def test_another_view_is_another_matter(self, database: Database) -> None:
        history(database)
        versions = []

        def other_view(at: Progress) -> None:
            if at.state == "comparing":
                with app(database) as other:
                    versions.append(rebuild(other, PROJECTIONS[1]))

        with app(database) as connection:
            rebuild(connection, VIEW, report=other_view)
        assert versions == [2]

    def test_a_view_that_would_differ_is_not_switched_and_the_row_is_named(
        self, database: Database
    ) -> None:
        history(database)
        (damaged, *_), *_ = select(
            database, "SELECT id FROM views.scim_tokens_v1 ORDER BY id OFFSET 3"
        )
        spoil(database, f"UPDATE views.scim_tokens_v1 SET name = 'hunter2' WHERE id = '{damaged}'")
        with app(database) as connection:
            with pytest.raises(ViewsDiffer) as caught:
                rebuild(connection, VIEW)
            assert str(caught.value) == (
                f"scim_tokens: the row {damaged} differs in name; the view was not switched"
            )
            assert tables(database) == ["scim_tokens_v1"]
            told = latest(connection, VIEW)
            assert told is not None
            assert (told.state, told.error) == ("failed", str(caught.value))
            assert rebuild(connection, VIEW, accepts_difference=True) == 2
            assert check_view(connection, VIEW) is None
        assert select(database, "SELECT 1 FROM views.scim_tokens_v2 WHERE name = 'hunter2'") == []

    def test_a_fold_that_was_changed_without_its_shape_is_noticed(self, database: Database) -> None:
        def rotated_and_not_updated(row: TokenRow, entry: LogEntry, event: Rotated) -> TokenRow:
            after = rotated(row, entry, event)
            return msgspec.structs.replace(after, updated_at=row.updated_at)

        history(database)
        with (
            app(database) as connection,
            pytest.raises(ViewsDiffer, match="differs in updated_at, after_use"),
        ):
            rebuild(
                connection, replace(VIEW, evolve={**VIEW.evolve, Rotated: rotated_and_not_updated})
            )

    def test_an_event_that_cannot_be_applied_is_named(self, database: Database) -> None:
        history(database)
        (poison,), *_ = select(
            database,
            f"SELECT max(notification_id) FROM ledger.events WHERE topic = '{Created.topic}'",
        )
        spoil(
            database,
            f"UPDATE ledger.events SET state = '{{\"hunter2\"' WHERE notification_id = {poison}",
        )
        with app(database) as connection:
            with pytest.raises(UnappliableEvent) as caught:
                rebuild(connection, VIEW)
            assert caught.value.position == poison
            told = latest(connection, VIEW)
        assert told is not None
        assert told.error == f"event {poison}: UnreadableEvent on a scim_token.created.v1"
        assert tables(database) == ["scim_tokens_v1"]


class TestAtomic:
    """Rows and position are written in one transaction; and the check that says so notices two."""

    def test_a_write_that_fails_half_way_leaves_nothing(self, database: Database) -> None:
        assert self.is_atomic(database, bulk._Filling.write)

    def test_a_position_in_a_second_transaction_is_noticed(self, database: Database) -> None:
        def write(filling: bulk._Filling, position: int) -> None:
            filling._version.copy(filling.rows.values())
            filling._version.move(position, after=0)

        assert not self.is_atomic(database, write)

    @staticmethod
    def is_atomic(database: Database, write: Callable[[bulk._Filling, int], None]) -> bool:
        history(database)
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute(
                "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql "
                "AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'crash_shutdown'; END $$"
            )
            owner.execute(
                "CREATE TRIGGER fail BEFORE UPDATE ON ledger.projection_positions "
                "FOR EACH ROW WHEN (new.version = 2) EXECUTE FUNCTION public.fail()"
            )
        with app(database) as connection:
            create_version(connection, VIEW, 2, role="building")
            filling = bulk._Filling(ViewVersion(connection, VIEW, 2, "building"))
            entries = read_log.read(connection, after=0, limit=1000)
            entries = [entry for entry in entries if entry.topic in VIEW.topics]
            VIEW.fold(filling.rows_for(entries), entries, REGISTRY)
            with pytest.raises(psycopg.OperationalError):
                write(filling, entries[-1].position)
        return select(database, "TABLE views.scim_tokens_v2") == []


@pytest.mark.parametrize("beyond", [1, 600, 20_000])
def test_a_view_that_was_beyond_the_ledger_is_where_that_is(
    database: Database, beyond: int
) -> None:
    """Else what comes at those positions would be missing in the new version, too."""
    history(database)
    spoil(
        database,
        f"UPDATE ledger.projection_positions SET position = position + {beyond} "
        "WHERE name = 'scim_tokens'",
    )
    with app(database) as connection:
        rebuild(connection, VIEW)
        assert position(database).lag == 0
        token_id = record(database, created(T4 + timedelta(days=9)))
        catch_up(database)
        assert check_view(connection, VIEW) is None
    assert position(database).lag == 0
    assert (token_id,) in select(database, "SELECT id FROM views.scim_tokens_v2")

"""Which versions of a view a release makes for itself."""

from dataclasses import replace

import pytest

from projections.follow.positions import live_position
from projections.rebuild import shapes
from projections.rebuild.requests import underway
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests.conftest import Database
from tests.projections.rebuild.lives import VIEW, app, history


class TestPreparing:
    def test_a_view_of_a_short_ledger_is_there_at_once(self, database: Database) -> None:
        history(database)
        grown = replace(VIEW, shape=VIEW.shape + 1)
        with app(database) as connection:
            shapes.prepare(connection, grown)
            at = live_position(connection, grown)
            assert at is not None
            assert (at.version, at.position) == (2, 0)
            assert Runner(database.app, [grown]).catch_up(connection) > 0
            assert live_position(connection, VIEW) is not None

    def test_that_of_a_long_one_is_asked_for(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history(database)
        monkeypatch.setattr(shapes, "BULK_FROM", 10)
        grown = replace(VIEW, shape=VIEW.shape + 1)
        with app(database) as connection:
            shapes.prepare(connection, grown)
            assert live_position(connection, grown) is None
            assert underway(connection, [grown]) == [grown]
            assert underway(connection, PROJECTIONS) == []

"""While two releases work on one ledger, each doctor tells of its own release's views."""

from collections.abc import Sequence
from typing import Final, LiteralString

import psycopg
import pytest

from projections.follow import positions
from projections.projection import Projection
from projections.registry import PROJECTIONS
from projections.warnings.queries import VIEWS
from tests.api.doctor.test_doctor import IS_OK, WARNS, as_owner, found
from tests.conftest import Database

BESIDE: Final[LiteralString] = (
    "INSERT INTO ledger.projection_positions (name, version, shape, position, role, stopped_at) "
    "SELECT name, version + 7, shape + 1, 0, 'live', 1 FROM ledger.projection_positions"
)
"""Those of a release that comes after: each view anew, and none of them can be read by this one."""
BEFORE: Final[LiteralString] = (
    "UPDATE ledger.projection_positions SET shape = shape - 1 WHERE name = 'usage'; "
    "INSERT INTO ledger.projection_positions (name, version, shape, position, role) "
    "SELECT name, version + 1, shape + 1, position, role FROM ledger.projection_positions "
    "WHERE name = 'usage'"
)


def test_another_releases_views_are_not_taken_for_those_of_this_one(database: Database) -> None:
    as_owner(database, BESIDE)
    told = found(database)
    views = [f"view {each.name}" for each in PROJECTIONS]
    assert {told[what].status for what in (*views, "warnings", "old views")} == {IS_OK}, told


def test_the_release_before_keeps_its_views_until_it_has_ended(database: Database) -> None:
    as_owner(database, BEFORE)
    old = found(database)["old views"]
    assert (old.status, old.found) == (WARNS, "tables that this release does not read: usage_v1")
    assert old.remedy is not None
    assert old.remedy.startswith("once no process of the release before runs")


@pytest.mark.parametrize("views", [PROJECTIONS, VIEWS])
def test_one_place_tells_the_versions_of_this_release(
    database: Database, views: Sequence[Projection]
) -> None:
    as_owner(database, BESIDE)
    with psycopg.connect(database.app) as connection:
        live = positions.live_of(connection, views)
    assert {name: at.version for name, at in live.items()} == {view.name: 1 for view in views}

"""A comparison that finds a difference takes as long as the view is large, and stops nobody."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from domain.postgres.connection import open_connection
from domain.postgres.session import FOLLOWING
from projections.rebuild.compare import Difference, first_difference
from projections.rebuild.run import check_view, rebuild
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests.conftest import Database
from tests.domain.scenario import T4, created, rotated, used
from tests.projections.given_events import position, record, select
from tests.projections.rebuild.lives import VIEW, app, history, spoil


@pytest.mark.parametrize("is_repaired", [False, True], ids=["verified", "repaired"])
def test_the_live_view_goes_on_while_the_first_difference_is_looked_for(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, is_repaired: bool
) -> None:
    """Events arrive and are applied before it, in the middle of it, and after it."""
    history(database)
    (damaged, *_), *_ = select(database, "SELECT id FROM views.scim_tokens_v1 ORDER BY id OFFSET 3")
    spoil(database, f"UPDATE views.scim_tokens_v1 SET name = 'other' WHERE id = '{damaged}'")
    found: list[Difference | None] = []

    def arrive() -> None:
        later = T4 + timedelta(days=9)
        record(database, created(later), used(later), rotated(later))
        with open_connection(database.app, session=FOLLOWING, timeout_s=2) as follower:
            Runner(database.app, PROJECTIONS).catch_up(follower)
        assert position(database).lag == 0

    def look_meanwhile(connection: psycopg.Connection, *at: Any) -> Difference | None:
        connection.execute("SELECT")  # it has begun
        arrive()
        found.append(first_difference(connection, *at))
        arrive()
        return found[-1]

    monkeypatch.setattr("projections.rebuild.steps.first_difference", look_meanwhile)
    with app(database) as connection:
        if is_repaired:
            version = rebuild(connection, VIEW, report=lambda _: arrive(), accepts_difference=True)
            assert version == 2
            assert position(database).lag == 0
            assert check_view(connection, VIEW) is None
        else:
            assert check_view(connection, VIEW, report=lambda _: arrive()) == found[0]
    assert found == [
        Difference(
            "scim_tokens",
            str(damaged),
            is_missing=False,
            is_surplus=False,
            columns=("name",),
        )
    ]

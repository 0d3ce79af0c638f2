"""Whatever rebuilds are asked for, done, cut short and failed: each tells of itself alone."""

from collections import Counter
from contextlib import suppress
from typing import Any, Final

from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st
from psycopg import Connection

from projections.projection import Projection
from projections.rebuild.requests import latest, request, underway
from projections.rebuild.run import rebuild
from projections.rebuild.steps import Interrupted, Progress
from projections.registry import PROJECTIONS
from tests.conftest import new_database
from tests.domain.scenario import created
from tests.projections.given_events import record
from tests.projections.rebuild.lives import app

ENDS: Final = {
    "ask": None,
    "cut short": None,
    "carry out": ("done", None),
    "fail": ("failed", "Broken"),
}
"""How a rebuild has ended after each, as its row tells it; None where it is still to be done."""
STEPS: Final = st.lists(
    st.tuples(st.sampled_from([*ENDS]), st.integers(0, 2)), min_size=4, max_size=10
)


class Broken(Exception):
    """What stops a rebuild for good."""


def step(connection: Connection, what: str, view: Projection) -> None:
    def report(at: Progress) -> None:
        if what != "carry out" and at.state == "comparing":
            raise Interrupted if what == "cut short" else Broken

    if what == "ask":
        request(connection, view)
    else:
        with suppress(Interrupted, Broken):
            rebuild(connection, view, report=report)


def rows(connection: Connection) -> Counter[tuple[Any, ...]]:
    """Of all rebuilds that there ever were: the view, and how each ended."""
    found = connection.execute(
        "SELECT name, finished_at IS NOT NULL, CASE WHEN finished_at IS NOT NULL THEN state END, "
        "error FROM ledger.projection_rebuilds"
    )
    return Counter(
        (name, (state, error) if has_ended else None) for name, has_ended, state, error in found
    )


@settings(max_examples=4)
@example([("ask", 0), ("ask", 1), ("carry out", 0), ("ask", 0), ("fail", 1), ("carry out", 1)])
@given_any(steps=STEPS)
def test_each_tells_of_itself_alone(server: str, steps: list[tuple[str, int]]) -> None:
    asked: list[Projection] = []
    ended: list[tuple[Any, ...]] = []
    with new_database(server) as database, app(database) as connection:
        record(database, created())
        for what, number in steps:
            view = PROJECTIONS[number]
            step(connection, what, view)
            if view not in asked:
                asked.append(view)
            end = ENDS[what]
            if end is not None:
                asked.remove(view)
                ended.append((view.name, end))
                told = latest(connection, view)
                assert told is not None
                assert (told.state, told.error) == end
            assert underway(connection, PROJECTIONS) == asked
            assert rows(connection) == Counter([*ended, *((each.name, None) for each in asked)])

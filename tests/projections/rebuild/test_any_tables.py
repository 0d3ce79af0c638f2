"""Two tables are compared column by column and row by row, and the last rebuild is told of each
view: whatever is in them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.postgres.sql_file import with_names
from projections.rebuild import compare, requests
from tests.conftest import new_database

COLUMNS: Final = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.tuples(st.sampled_from(["text", "uuid", "numeric(5,2)", "numeric(6,2)"]), st.booleans()),
)
"""Type, and whether NOT NULL."""
ROWS: Final = st.dictionaries(
    st.integers(1, 4), st.tuples(*([st.none() | st.sampled_from(["x", "y"])] * 2)), max_size=4
)
VIEWS: Final = [(name, shape) for name in ("one", "other") for shape in (1, 2)]


class Rebuild(NamedTuple):
    of: tuple[str, int]
    accepts_difference: bool
    is_over: bool


def one_underway_of_each(made: Sequence[Rebuild]) -> list[Rebuild]:
    """What was asked for last is under way, and nothing else of the same view is."""
    later = [each.of for each in made]
    return [
        each._replace(is_over=each.is_over or each.of in later[place + 1 :])
        for place, each in enumerate(made)
    ]


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    """What is written is rolled back."""
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


@settings(max_examples=60)
@given(columns=COLUMNS, dropped=st.booleans())
def test_the_columns_of_a_table_are_told_as_they_are(
    owner: psycopg.Connection[Any], columns: dict[str, tuple[str, bool]], *, dropped: bool
) -> None:
    made = ", ".join(
        f"{name} {type_}{' NOT NULL' if is_needed else ''}"
        for name, (type_, is_needed) in columns.items()
    )
    owner.execute(f"CREATE TABLE views.compared ({made})".encode())
    if dropped and "a" in columns:
        owner.execute("ALTER TABLE views.compared DROP COLUMN a")
        columns = {name: how for name, how in columns.items() if name != "a"}
    found = owner.execute(compare._SQL["columns"], ["views.compared"]).fetchall()
    missing = owner.execute(compare._SQL["columns"], ["views.missing"]).fetchall()
    owner.rollback()
    assert found == [(name, *how) for name, how in columns.items()]
    assert missing == []


@settings(max_examples=80)
@example(live={1: ("x", "x"), 2: ("y", "y")}, new={1: ("x", "y"), 2: ("y", "x")})
@example(live={1: ("x", None), 2: (None, "x")}, new={1: (None, "x"), 2: ("x", None)})
@given(live=ROWS, new=ROWS)
def test_the_first_row_that_differs_is_named(
    owner: psycopg.Connection[Any],
    live: dict[int, tuple[str | None, str | None]],
    new: dict[int, tuple[str | None, str | None]],
) -> None:
    for table, rows in (("live", live), ("new", new)):
        owner.execute(
            f"CREATE TABLE views.{table} (id int PRIMARY KEY, first text, last text)".encode()
        )
        for key, row in rows.items():
            owner.execute(f"INSERT INTO views.{table} VALUES (%s, %s, %s)".encode(), [key, *row])
    statement = with_names(
        compare._SQL["first_difference"], key="id", live=("views", "live"), new=("views", "new")
    )
    found = owner.execute(statement).fetchall()
    digests = [
        owner.execute(with_names(compare._SQL["digest"], table=("views", table))).fetchall()
        for table in ("live", "new")
    ]
    owner.rollback()
    differ = sorted(key for key in {*live, *new} if live.get(key) != new.get(key))
    expected = []
    for key in differ[:1]:
        here, there = live.get(key, ()), new.get(key, ())
        names = [
            name
            for name, one, other in zip(("first", "last"), here, there, strict=False)
            if one != other
        ]
        expected.append((str(key), key not in live, key not in new, names))
    assert found == expected
    assert (digests[0] == digests[1]) == (live == new)
    assert [each[0][0] for each in digests] == [len(live), len(new)]


@settings(max_examples=100)
@example(made=[Rebuild(VIEWS[0], False, False)], asked=VIEWS, begun=VIEWS[0], accepts=True)
@given(
    made=st.lists(
        st.builds(Rebuild, st.sampled_from(VIEWS), st.booleans(), st.booleans()), max_size=6
    ).map(one_underway_of_each),
    asked=st.lists(st.sampled_from(VIEWS), unique=True),
    begun=st.sampled_from(VIEWS),
    accepts=st.booleans(),
)
def test_of_each_view_and_shape_its_own_rebuilds_are_told(
    owner: psycopg.Connection[Any],
    *,
    made: list[Rebuild],
    asked: list[tuple[str, int]],
    begun: tuple[str, int],
    accepts: bool,
) -> None:
    """The version of each is its place."""
    for place, each in enumerate(made):
        owner.execute(
            "INSERT INTO ledger.projection_rebuilds"
            " (name, shape, accepts_difference, version, finished_at)"
            " VALUES (%s, %s, %s, %s, CASE WHEN %s THEN now() END)",
            [*each.of, each.accepts_difference, place, each.is_over],
        )
    known = [[name for name, _ in asked], [shape for _, shape in asked]]
    latest = owner.execute(requests.LATEST_OF_EACH, known).fetchall()
    one = [row for of in asked for row in owner.execute(requests.LATEST, of).fetchall()]
    underway = owner.execute(requests._SQL["underway"]).fetchall()
    (begin,) = owner.execute(requests._SQL["begin"], [*begun, accepts]).fetchall()
    owner.execute(requests._SQL["accept_differences"])
    owner.execute(requests._SQL["finish"], {"error": None, "id": begin[0]})
    left = owner.execute(
        "SELECT name, shape, accepts_difference FROM ledger.projection_rebuilds"
        " WHERE finished_at IS NULL ORDER BY id"
    ).fetchall()
    over = owner.execute(
        "SELECT version, accepts_difference FROM ledger.projection_rebuilds"
        " WHERE finished_at IS NOT NULL AND id <> %s ORDER BY id",
        [begin[0]],
    ).fetchall()
    owner.rollback()

    last = {each.of: place for place, each in enumerate(made)}
    assert sorted((row[0], row[2]) for row in latest) == sorted(
        (of[0], last[of]) for of in asked if of in last
    )
    assert sorted(one) == sorted(latest)
    going_on = [each for each in made if not each.is_over]
    assert underway == [each.of for each in going_on]
    assert begin[1] == (
        accepts or any(each.accepts_difference for each in going_on if each.of == begun)
    )
    assert left == [(*each.of, True) for each in going_on if each.of != begun]
    assert over == [
        (place, each.accepts_difference) for place, each in enumerate(made) if each.is_over
    ]

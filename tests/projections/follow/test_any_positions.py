"""The pointer rows, and who leads: each statement finds, or changes, what it says, whatever else is
there.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.postgres.sql_file import statements
from projections.follow import locks, positions
from tests.conftest import Database, new_database
from tests.domain.scenario import T0

SQL: Final = statements("projections.follow", "sql/positions.sql")
NAMES: Final = ("one", "other")
NUMBERS: Final = st.integers(1, 3)
SHAPES: Final = st.integers(1, 2)
ROLES: Final = ("building", "live", "retired")
TABLES: Final = {
    "one_v5": 5,
    "other_v7": 0,
    "another_one_v8": 0,
    "one_v9_old": 0,
    "one_v1234567": 0,
}
"""Tables that somebody has left, and which version of the view `one` each is."""


class Row(NamedTuple):
    name: str
    version: int
    shape: int
    position: int
    role: str
    stopped_at: int | None

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.version

    @property
    def live_as(self) -> tuple[str, int] | None:
        return (self.name, self.shape) if self.role == "live" else None


def one_live_of_each(rows: Sequence[Row]) -> list[Row]:
    """No view has two live versions of a shape."""
    seen: set[tuple[str, int] | None] = set()
    kept = []
    for row in rows:
        if row.live_as is None or row.live_as not in seen:
            kept.append(row)
        seen.add(row.live_as)
    return kept


ROWS: Final = st.lists(
    st.builds(
        Row,
        st.sampled_from(NAMES),
        NUMBERS,
        SHAPES,
        st.sampled_from([0, 10, 20, 25]),
        st.sampled_from(ROLES),
        st.none() | st.just(11),
    ),
    max_size=6,
    unique_by=lambda row: row.key,
).map(one_live_of_each)
COLUMNS: Final = ", ".join(Row._fields)


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    with new_database(server) as database:
        yield database


@pytest.fixture(scope="module")
def neighbour(server: str) -> Iterator[Database]:
    """Another ledger of the same server."""
    with new_database(server) as database:
        yield database


@pytest.fixture(scope="module")
def owner(ledger: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(ledger.owner) as connection:
        connection.execute("DELETE FROM ledger.projection_positions")
        connection.commit()
        yield connection


def put(owner: psycopg.Connection[Any], rows: Sequence[Row], *, events: int) -> None:
    """The rows, and events at the positions 10, 20, …, a minute apart."""
    with owner.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO ledger.projection_positions ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",
            rows,
        )
        cursor.executemany(
            "INSERT INTO ledger.events VALUES (%s, %s, 1, 'of.a.test', %s, %s, '')",
            [
                (number * 10, uuid4(), T0 + number * timedelta(minutes=1), uuid4())
                for number in range(1, events + 1)
            ],
        )


def stands(owner: psycopg.Connection[Any]) -> set[Row]:
    return {
        Row(*row) for row in owner.execute(f"SELECT {COLUMNS} FROM ledger.projection_positions")
    }


@settings(max_examples=80)
@given(
    rows=ROWS,
    events=st.integers(0, 3),
    asked=st.lists(
        st.tuples(st.sampled_from(NAMES), SHAPES), unique_by=lambda each: each[0], max_size=2
    ),
    version=NUMBERS,
    shape=SHAPES,
)
def test_a_question_is_answered_from_the_rows_that_it_is_about(
    owner: psycopg.Connection[Any],
    *,
    rows: list[Row],
    events: int,
    asked: list[tuple[str, int]],
    version: int,
    shape: int,
) -> None:
    put(owner, rows, events=events)
    known = [[name for name, _ in asked], [each for _, each in asked]]

    def found(name: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return owner.execute(SQL[name], parameters).fetchall()

    all_ = positions.all_positions(owner)
    states, live_versions = found("states", *known), found("live_versions", *known)
    is_live = found("is_live", "one", shape)
    until = found("of_shapes_until", "one", shape)
    building, held = found("building", "one", shape), found("hold", "one", version, shape)
    owner.rollback()

    head = events * 10
    assert [
        (each.name, each.version, each.shape, each.position, each.role, each.stopped_at, each.head)
        for each in all_
    ] == [(*row, head) for row in sorted(rows) if row.role != "retired"]
    for each in all_:
        later = [number for number in range(1, events + 1) if number * 10 > each.position]
        assert each.waiting_since == (T0 + later[0] * timedelta(minutes=1) if later else None)
    live = {row.live_as: row for row in rows if row.live_as}

    def state(of: tuple[str, int]) -> tuple[str, str, int | None, int]:
        row = live.get(of)
        if row is None:
            return of[0], "building", None, head
        told = "live" if row.stopped_at is None else "stopped"
        return of[0], told, row.stopped_at, head - row.position

    assert states == [state(of) for of in sorted(asked)]
    assert sorted(live_versions) == sorted(live[of].key for of in asked if of in live)
    assert bool(is_live) == (("one", shape) in live)
    mine = sorted(row for row in rows if row.name == "one")
    assert until == [(row.version, row.shape, row.role) for row in mine if row.shape <= shape]
    assert sorted(building) == [
        (row.version,) for row in mine if (row.shape, row.role) == (shape, "building")
    ]
    assert held == [
        (row.version, row.position)
        for row in mine
        if row.version == version or row.live_as == ("one", shape)
    ]


@settings(max_examples=80)
@given(
    rows=ROWS,
    version=NUMBERS,
    shape=SHAPES,
    position=st.sampled_from([0, 10, 20]),
    role=st.sampled_from(ROLES),
)
def test_a_change_is_of_one_version_and_no_other(
    owner: psycopg.Connection[Any],
    *,
    rows: list[Row],
    version: int,
    shape: int,
    position: int,
    role: str,
) -> None:
    key = ["one", version]
    changes: dict[str, tuple[list[Any], dict[str, Any] | None, set[Row]]] = {
        "move": (
            [30, *key, position, role],
            {"position": 30},
            {row for row in rows if (*row.key, row.position, row.role) == (*key, position, role)},
        ),
        "stop": ([31, "why", *key], {"stopped_at": 31}, {row for row in rows if [*row.key] == key}),
        "retry": (
            ["one", shape],
            {"stopped_at": None},
            {row for row in rows if row.live_as == ("one", shape) and row.stopped_at is not None},
        ),
        "retire": (
            ["one", shape],
            {"role": "retired"},
            {row for row in rows if row.live_as == ("one", shape)},
        ),
        "remove": (key, None, {row for row in rows if [*row.key] == key}),
    }
    for name, (parameters, change, concerned) in changes.items():
        put(owner, rows, events=0)
        count = owner.execute(SQL[name], parameters).rowcount
        after = stands(owner)
        owner.rollback()
        changed = set() if change is None else {row._replace(**change) for row in concerned}
        assert (name, after) == (name, {*rows} - concerned | changed)
        assert (name, count) == (name, len(concerned))


@given(rows=ROWS, version=NUMBERS)
def test_readers_come_to_the_version_that_goes_live(
    owner: psycopg.Connection[Any], rows: list[Row], version: int
) -> None:
    rows = [row._replace(role="retired") for row in rows]
    put(owner, rows, events=0)
    owner.execute(SQL["go_live"], ["one", version])
    after = stands(owner)
    owner.rollback()
    assert after == {
        row._replace(role="live") if row.key == ("one", version) else row for row in rows
    }


@given(rows=ROWS, tables=st.sets(st.sampled_from([*TABLES])))
def test_a_new_version_has_a_number_that_none_has_had(
    owner: psycopg.Connection[Any], rows: list[Row], tables: set[str]
) -> None:
    put(owner, rows, events=0)
    for table in tables:
        owner.execute(f"CREATE TABLE views.{table} ()".encode())
    row = owner.execute(SQL["next_version"], {"name": "one"}).fetchone()
    owner.rollback()
    taken = [row.version for row in rows if row.name == "one"] + [TABLES[each] for each in tables]
    assert row == (1 + max(taken, default=0),)


HELD: Final = st.tuples(
    st.booleans(),
    st.sampled_from([locks.LEADER, locks.LEADER, locks.REBUILD]),
    st.sampled_from(["one/1", "one/2", "other/1"]),
    st.booleans(),
)
"""Whether it is of a neighbour; what for, and the lock's name; whether it has one number or two."""


@settings(max_examples=40)
@given(
    held=st.lists(HELD, max_size=3),
    known=st.lists(st.sampled_from(["one/1", "one/2", "other/1"]), unique=True),
)
def test_another_release_leads_where_somebody_leads_what_this_one_does_not_know(
    ledger: Database,
    neighbour: Database,
    owner: psycopg.Connection[Any],
    held: list[tuple[bool, int, str, bool]],
    known: list[str],
) -> None:
    with ExitStack() as stack:
        for is_neighbour, purpose, name, has_two in held:
            database = neighbour if is_neighbour else ledger
            holder = stack.enter_context(psycopg.connect(database.owner))
            numbers = (
                "%s, hashtext(%s)"
                if has_two
                else "(%s::bigint << 32) | (hashtext(%s)::bigint & 4294967295)"
            )
            holder.execute(f"SELECT pg_advisory_xact_lock_shared({numbers})", [purpose, name])
        row = owner.execute(locks.ANOTHER_RELEASE_LEADS, [known]).fetchone()
        owner.rollback()
    assert row == (
        any(
            (is_neighbour, purpose, has_two) == (False, locks.LEADER, True) and name not in known
            for is_neighbour, purpose, name, has_two in held
        ),
    )

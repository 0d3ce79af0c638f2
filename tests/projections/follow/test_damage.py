"""B8: whatever is done to the table of one view, that view alone stops, with a reason;
a rebuild mends it.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from domain.errors import ProjectionStopped
from domain.postgres.read_pool import ReadPool
from domain.postgres.session import FOLLOWING
from projections import faults
from projections import runner as running_views
from projections.follow.positions import Position, all_positions
from projections.kinds.row_per_event import RowPerEvent
from projections.projection import Projection
from projections.rebuild.compare import Unreadable
from projections.rebuild.run import check_view, rebuild
from projections.rebuild.steps import ViewsDiffer
from projections.registry import PROJECTIONS
from projections.view_reader import ViewReader
from tests.conftest import APP_ROLE, Database, catch_up, new_database
from tests.domain.scenario import T4, Given, created, refused, revoked, rotated, used
from tests.projections.follow.test_runner import running
from tests.projections.given_events import record, until
from tests.projections.rebuild.lives import app, history
from tests.turns import by_turns

Damage = Callable[[Projection, str], str]
"""Of a view and one of its columns: the statement that damages it."""


def _table(projection: Projection) -> str:
    return projection.table(1)


def _another_type(projection: Projection, column: str) -> str:
    """Its indexes that compare it go first: PostgreSQL refuses another type beside them."""
    type_ = "varchar(4)" if projection.type_of(column) == "text" else "text"
    in_the_way = [
        name
        for name, of in projection.indexes.items()
        if projection.type_of(column) in {"boolean", "integer"}
        and column in of.partition("WHERE")[2]
    ]
    return "; ".join(
        [
            *(f"DROP INDEX {_table(projection)}_{name}" for name in in_the_way),
            f"ALTER TABLE {_table(projection)} ALTER {column} TYPE {type_} USING {column}::{type_}",
        ]
    )


def _conflicting_rows(projection: Projection, _: str) -> str:
    """Rows that stand where the next ones belong;
    for a view that merges, ones that nothing has led to.
    """
    names = list(projection.columns)
    key = {"bigint": "n", "bytea": "uuid_send(gen_random_uuid())", "uuid": "gen_random_uuid()"}
    values = ", ".join([key[projection.type_of(names[0])], *names[1:]])
    return (
        f"INSERT INTO {_table(projection)} SELECT {values} "
        f"FROM (TABLE {_table(projection)} LIMIT 1) row, generate_series(1000, 1100) n"
        if isinstance(projection, RowPerEvent)
        else f"INSERT INTO {_table(projection)} SELECT {values} FROM (TABLE {_table(projection)} "
        f"LIMIT 1) row"
    )


DAMAGES: Final[Mapping[str, Damage]] = {
    "the table is dropped": lambda view, _: f"DROP TABLE {_table(view)}",
    "it is another": lambda view, _: f"ALTER TABLE {_table(view)} RENAME TO kept",
    "a column is dropped": lambda view, column: f"ALTER TABLE {_table(view)} DROP {column} CASCADE",
    "a column has another name": lambda view, column: (
        f"ALTER TABLE {_table(view)} RENAME {column} TO other"
    ),
    "a column has another type": _another_type,
    "there is no primary key": lambda view, _: (
        f"ALTER TABLE {_table(view)} DROP CONSTRAINT {view.name}_v1_pkey"
    ),
    "it may not be read or written": lambda view, _: (
        f"REVOKE ALL ON {_table(view)} FROM {APP_ROLE}"
    ),
    "it may not be written": lambda view, _: (
        f"REVOKE INSERT, UPDATE, DELETE ON {_table(view)} FROM {APP_ROLE}"
    ),
    "no row is let in": lambda view, _: f"ALTER TABLE {_table(view)} ADD CHECK (false) NOT VALID",
    "rows are in the way": _conflicting_rows,
    "it is empty": lambda view, _: f"TRUNCATE {_table(view)}",
}
LIFE: Final[tuple[Given, ...]] = (
    created(T4),
    used(T4),
    rotated(T4),
    used(T4),
    refused(T4),
    revoked(T4),
)
LATER: Final = timedelta(days=30)


@pytest.fixture(scope="module")
def told(server: str) -> Iterator[Database]:
    """A ledger with a history, all views caught up, for each test to have a copy of."""
    with new_database(server) as made:
        history(made)
        yield made


@pytest.fixture
def database(server: str, told: Database) -> Iterator[Database]:
    with new_database(server, template=str(conninfo_to_dict(told.owner)["dbname"])) as made:
        yield made


def further_events(database: Database) -> None:
    """Something that every view folds: old tokens are used, too, and from another address."""
    record(database, *((event, at + LATER) for event, at in LIFE))


def states(database: Database) -> dict[str, Position]:
    with app(database) as connection:
        return {at.name: at for at in all_positions(connection) if at.role == "live"}


def read(database: Database, projection: Projection) -> list[tuple[Any, ...]]:
    """All columns of all rows, as a query reads them."""

    async def ask() -> list[tuple[Any, ...]]:
        pool = ReadPool(database.app)
        try:
            reader = ViewReader(pool, projection)
            return await reader.rows(
                f"SELECT true, {', '.join(projection.columns)} FROM {{table}}", [], ledger_head=0
            )
        finally:
            await pool.close()

    return asyncio.run(ask())


def damage(database: Database, statement: str) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(statement.encode())


def columns() -> Iterator[Any]:
    """One of the views with every second damage, by turns, and one of the columns.

    All views in the long run, all columns in the slow one.
    """
    for place, projection in enumerate(PROJECTIONS):
        for turn, kind in enumerate(DAMAGES):
            names = list(projection.columns)
            drawn = random.Random(f"{projection.name} {kind}").choice(names)
            is_in_turn = (place - turn) % len(PROJECTIONS) == 0 and turn % 2 == 0
            for column in names if "column" in kind else [drawn]:
                marks = [] if is_in_turn else [pytest.mark.long]
                if column != drawn:
                    marks = [pytest.mark.slow]
                yield pytest.param(
                    projection, kind, column, marks=marks, id=f"{projection.name}-{kind}-{column}"
                )


@pytest.mark.parametrize(("projection", "kind", "column"), list(columns()))
def test_only_that_view_stops_and_a_rebuild_repairs_it(
    database: Database, projection: Projection, kind: str, column: str
) -> None:
    damage(database, DAMAGES[kind](projection, column))
    further_events(database)
    catch_up(database)

    found = states(database)
    for name, at in found.items():
        if name != projection.name:
            assert (at.state, at.lag) == ("live", 0), name
    at = found[projection.name]
    assert at.lag == 0 or (at.state == "stopped" and at.stopped_at is not None and at.error)
    with suppress(ProjectionStopped):
        read(database, projection)

    with app(database) as connection:
        others = [each for each in PROJECTIONS if each is not projection]
        assert [check_view(connection, each) for each in others] == [None] * len(others)
        try:
            rebuild(connection, projection)
        except ViewsDiffer:
            # rows that can be compared, and are others: that is for the operator to decide
            assert kind in {
                "rows are in the way",
                "it is empty",
                "no row is let in",
                "it may not be written",
            }
            rebuild(connection, projection, accepts_difference=True)
        catch_up(database)
        assert check_view(connection, projection) is None
    assert {(at.state, at.lag) for at in states(database).values()} == {("live", 0)}
    assert len(read(database, projection)) > 0


@pytest.mark.parametrize(
    "projection", by_turns(PROJECTIONS, one_of=3), ids=lambda projection: projection.name
)
def test_the_reason_names_the_table_and_the_operator_is_told_that_nothing_was_compared(
    database: Database, capsys: pytest.CaptureFixture[str], projection: Projection
) -> None:
    table = _table(projection)
    for worse, reason in (
        (f"REVOKE ALL ON {table} FROM {APP_ROLE}", f"the table {table} may not be read"),
        (
            f"ALTER TABLE {table} RENAME {projection.key_column} TO other",
            f"the columns of {table} are not those of its shape",
        ),
        (f"DROP TABLE {table}", f"the table {table} is missing"),
    ):
        damage(database, worse)
        with app(database) as connection:
            found = check_view(connection, projection)
        assert found == Unreadable(projection.name, reason)
    further_events(database)
    catch_up(database)
    at = states(database)[projection.name]
    assert at.state == "stopped"
    assert at.error is not None
    assert at.error.startswith("UndefinedTable on a scim_token.")
    assert at.error.endswith(f': relation "{_table(projection)}" does not exist')
    capsys.readouterr()
    with app(database) as connection:
        assert rebuild(connection, projection) == 2
    assert "projections.not_compared" in capsys.readouterr().out


def test_planted_an_error_of_one_view_that_counts_as_the_stores_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: anything but a wrong value was taken for the store's."""
    monkeypatch.setattr(
        "projections.follow.apply.is_of_the_store",
        lambda error: (
            isinstance(error, psycopg.Error)
            and not isinstance(error, psycopg.DataError | psycopg.IntegrityError)
        ),
    )
    damage(database, "DROP TABLE views.usage_v1")
    further_events(database)
    with pytest.raises(psycopg.errors.UndefinedTable):
        catch_up(database)
    assert states(database)["usage"].state == "live"


@contextmanager
def locked(database: Database, projection: Projection) -> Iterator[None]:
    with psycopg.connect(database.owner) as owner:
        owner.execute(f"LOCK {_table(projection)} IN ACCESS EXCLUSIVE MODE".encode())
        yield


@pytest.mark.parametrize(
    "projection",
    by_turns(PROJECTIONS, one_of=len(PROJECTIONS)),
    ids=[projection.name for projection in PROJECTIONS],
)
def test_a_table_that_somebody_locks_holds_no_other_view_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, projection: Projection
) -> None:
    """That is a matter of the store: nobody stops, and the view goes on when it can."""
    monkeypatch.setattr(running_views, "REST_S", 0.05)
    monkeypatch.setattr(running_views, "FOLLOWING", replace(FOLLOWING, lock_ms=50))
    with running(database):
        until(lambda: all(at.lag == 0 for at in states(database).values()))
        with locked(database, projection):
            further_events(database)
            others = {each.name for each in PROJECTIONS} - {projection.name}
            until(lambda: all(states(database)[name].lag == 0 for name in others))
            assert states(database)[projection.name].state == "live"
            further_events(database)
            until(lambda: all(states(database)[name].lag == 0 for name in others))
        until(lambda: states(database)[projection.name].lag == 0)


def test_what_is_wrong_with_the_ledgers_own_tables_stops_no_view(database: Database) -> None:
    further_events(database)
    damage(database, f"REVOKE SELECT ON ledger.aggregates FROM {APP_ROLE}")
    with pytest.raises(psycopg.OperationalError, match="permission denied for table aggregates"):
        catch_up(database)
    found = states(database)
    assert {at.state for at in found.values()} == {"live"}
    assert {name for name, at in found.items() if at.lag} == {"audit_trail"}, (
        "it alone asks for owners"
    )
    damage(database, f"GRANT SELECT ON ledger.aggregates TO {APP_ROLE}")
    catch_up(database)
    assert all(at.lag == 0 for at in states(database).values())


def sqlstates() -> Iterator[tuple[str, type[psycopg.Error]]]:
    """Every error that psycopg knows by its code."""
    for name in dir(psycopg.errors):
        error = getattr(psycopg.errors, name)
        if isinstance(error, type) and issubclass(error, psycopg.Error) and error.sqlstate:
            yield error.sqlstate, error


STORES: Final = {
    *("57014", "57P01", "57P02", "57P03", "57P04", "57P05"),
    *("53000", "53100", "53200", "53300", "53400"),
    *("25006", "25P02", "25P03", "25P04"),
    *("40001", "40P01", "40003"),
    *("08000", "08003", "08006", "08001", "08004"),
    *("55P03", "55006", "58000", "58030"),
}
VIEWS: Final = {
    *("42P01", "42703", "42501", "42804", "42P10", "42883", "42P07", "3F000"),
    *("22001", "22003", "22021", "22P02", "22P03", "22P04", "23502", "23505", "23514"),
    *("54000", "XX000", "XX001", "XX002", "58P01", "P0001", "0A000", "55000"),
}


def test_the_code_tells_whose_fault_an_error_is() -> None:
    known = dict(sqlstates())
    assert (STORES | VIEWS) - {"25P04"} <= known.keys()
    wrong = {
        code: faults.is_of_the_store(error())
        for code, error in known.items()
        if code in STORES | VIEWS and faults.is_of_the_store(error()) != (code in STORES)
    }
    assert wrong == {}
    assert not faults.is_of_the_store(KeyError())
    assert not faults.is_of_the_store(
        psycopg.DataError("PostgreSQL text fields cannot contain NUL")
    )
    assert faults.is_of_the_store(psycopg.OperationalError("the connection is lost"))

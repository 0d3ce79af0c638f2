"""What leaves the ledger leaves the views, whoever reads, builds and follows them meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from domain.archive.extended import Stretch
from domain.eventstore.archive.removal import removable, remove
from domain.eventstore.archive.stretches import AnotherExtends
from projections.archive import extending as extending_module
from projections.archive.forgetting import ViewsNotReady, forget, views_held
from projections.rebuild.run import check_view, rebuild
from projections.rebuild.steps import Interrupted, Progress
from projections.registry import PROJECTIONS
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, archive, extending, facts
from tests.projections.history import given
from tests.projections.rebuild.lives import VIEW

HISTORY = facts([(0, "used", HOUR, "192.0.2.1", 2)] * 12)
BEFORE = T0 + 400 * HOUR
LOCK_VERSIONS = "SELECT pg_try_advisory_xact_lock(7239075816)"
AS_THE_RUNNER_DOES = "UPDATE ledger.projection_positions SET updated_at = now()"


@contextmanager
def app(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        yield connection


def test_views_that_go_on_meanwhile_are_ready(database: Database) -> None:
    given(database, *HISTORY)
    is_over = threading.Event()

    def go_on() -> None:
        with app(database) as connection:
            while not is_over.is_set():
                connection.execute(AS_THE_RUNNER_DOES)

    runner = threading.Thread(target=go_on)
    runner.start()
    try:
        with psycopg.connect(database.owner, autocommit=True) as owner:
            for _ in range(500):
                with views_held(owner, until=len(HISTORY)):
                    pass
    finally:
        is_over.set()
        runner.join()


def test_no_version_is_begun_while_events_leave_although_the_app_s_session_is_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be of events of which some have left and some have not."""
    given(database, *HISTORY)
    may_begin: list[bool] = []
    with extending(database, tmp_path) as run:

        def lose_and_remove(owner: psycopg.Connection, positions: list[int]) -> int:
            with psycopg.connect(database.owner, autocommit=True) as beside:
                beside.execute("SELECT pg_terminate_backend(%s, 5000)", [run.app.info.backend_pid])
                may_begin.extend(beside.execute(LOCK_VERSIONS).fetchone() or ())
            return remove(owner, positions)

        monkeypatch.setattr(extending_module, "remove", lose_and_remove)
        with suppress(psycopg.OperationalError):
            run.run(BEFORE)
    assert may_begin == [False]


def test_what_a_rebuild_has_left_that_was_cut_off_is_waited_for_by_nobody(
    database: Database, tmp_path: Path
) -> None:
    given(database, *HISTORY)

    def stop(at: Progress) -> None:
        if at.state == "indexing":
            raise Interrupted

    with app(database) as connection:
        with pytest.raises(Interrupted):
            rebuild(connection, VIEW, report=stop)
        assert archive(database, tmp_path, BEFORE).removed == len(HISTORY) - 4
        assert rebuild(connection, VIEW) > 1
        assert [check_view(connection, each) for each in PROJECTIONS] == [None] * len(PROJECTIONS)


def test_one_that_is_under_way_is(database: Database, tmp_path: Path) -> None:
    given(database, *HISTORY)

    def run(at: Progress) -> None:
        if at.state == "indexing":
            with pytest.raises(ViewsNotReady, match="is being rebuilt: repeat this"):
                archive(database, tmp_path, BEFORE)

    with app(database) as connection:
        assert check_view(connection, VIEW, report=run) is None
    assert [*tmp_path.iterdir()] == []


def test_one_command_at_a_time_extends_the_archive(database: Database, tmp_path: Path) -> None:
    given(database, *HISTORY)
    with extending(database, tmp_path) as first:

        def run_another(_: Stretch) -> None:
            with pytest.raises(AnotherExtends, match="repeat this once it is done"):
                archive(database, tmp_path, BEFORE)
            raise Interrupted

        with pytest.raises(Interrupted):
            replace(first, record=run_another).run(BEFORE)
    assert archive(database, tmp_path, BEFORE).removed == len(HISTORY) - 4


def test_no_statement_is_planned_for_a_few_positions_and_run_with_many(database: Database) -> None:
    """From the eleventh stretch on, each event was compared with each that leaves: two minutes."""
    given(database, *HISTORY)
    with app(database) as connection:
        positions, _ = removable(connection, len(HISTORY))
        for _ in range(12):
            forget(connection, positions, until=len(HISTORY))
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%<> ALL%'"
        ).fetchone() or (None,)
    assert count == 0

"""A rebuild that is interrupted or killed: the old view or the new one, and it is taken up."""

import multiprocessing
import random
import time
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe

import psycopg
import pytest
from structlog.testing import capture_logs

from domain.errors import StoreReadOnly
from projections.follow import locks
from projections.follow.view_version import ViewVersion
from projections.projection import Projection
from projections.rebuild import bulk, steps
from projections.rebuild.requests import latest, request, underway
from projections.rebuild.run import rebuild
from projections.rebuild.shapes import drop_old
from projections.rebuild.steps import Interrupted, Progress
from projections.rebuild.worker import Rebuilder
from projections.registry import PROJECTIONS
from tests.conftest import Database, catch_up
from tests.domain.scenario import T4, created, used
from tests.projections.given_events import record, select, until
from tests.projections.history import content
from tests.projections.rebuild.lives import VIEW, app, history, tables
from tests.turns import by_turns


class TestInterrupted:
    @pytest.mark.parametrize(
        "state", by_turns(["building", "indexing", "comparing", "switching"], one_of=2)
    )
    def test_it_is_asked_for_still_and_starts_over(self, database: Database, state: str) -> None:
        history(database)
        before = content(database, VIEW)

        def stop(at: Progress) -> None:
            if at.state == state:
                raise Interrupted

        with app(database) as connection:
            with pytest.raises(Interrupted):
                rebuild(connection, VIEW, report=stop)
            assert underway(connection, PROJECTIONS) == [VIEW]
            assert content(database, VIEW) == before
            assert not request(connection, VIEW)
            assert rebuild(connection, VIEW) == 2
            assert underway(connection, PROJECTIONS) == []
        assert content(database, VIEW) == before
        assert tables(database) == ["scim_tokens_v1", "scim_tokens_v2"]

    def test_it_stops_in_the_midst_of_what_arrived_while_it_was_filled(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "BATCH", 1)
        history(database, rounds=1)
        told: list[Progress] = []

        def arrive_and_stop(at: Progress) -> None:
            if at.state == "indexing" and not told:
                at_last = T4 + timedelta(days=9)
                record(database, created(at_last), used(at_last), used(at_last))
                catch_up(database)
            elif told and at.position > told[0].position:
                told.append(at)
                raise Interrupted
            if at.state == "indexing":
                told.append(at)

        with app(database) as connection, pytest.raises(Interrupted):
            rebuild(connection, VIEW, report=arrive_and_stop)
        assert told[-1].position < told[-1].head

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize(
        "projection",
        by_turns(PROJECTIONS, one_of=len(PROJECTIONS)),
        ids=[projection.name for projection in PROJECTIONS],
    )
    def test_killed_at_any_moment_there_is_the_old_view_or_the_new(
        self, database: Database, projection: Projection
    ) -> None:
        killed_at_any_moment(database, projection, rounds=4)

    @pytest.mark.slow
    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
    def test_killed_very_often(self, database: Database, projection: Projection) -> None:
        killed_at_any_moment(database, projection, rounds=150)

    def test_what_was_asked_for_is_done_by_a_process_that_is_there(
        self, database: Database
    ) -> None:
        history(database)
        with app(database) as connection:
            assert request(connection, VIEW)
            assert not request(connection, VIEW)
            with Rebuilder(database.app, PROJECTIONS):
                until(lambda: underway(connection, PROJECTIONS) == [])
            told = latest(connection, VIEW)
        assert told is not None
        assert (told.state, told.version, told.error) == ("done", 2, None)

    @pytest.mark.parametrize("is_asked_for", [False, True])
    def test_nobody_waits_for_rebuilds_at_a_server_that_takes_no_writes(
        self, database: Database, *, is_asked_for: bool
    ) -> None:
        """It was the primary: what is asked for from now on is asked of another."""
        with app(database) as connection:
            if is_asked_for:
                request(connection, VIEW)
            connection.execute("SET default_transaction_read_only = on")
            with pytest.raises(StoreReadOnly):
                Rebuilder(database.app, PROJECTIONS).step(connection)
            told = latest(connection, VIEW)
        assert getattr(told, "state", None) == ("requested" if is_asked_for else None)

    def test_one_whose_connection_is_lost_is_asked_for_still_and_not_told_to_have_failed(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lose(version: ViewVersion) -> None:
            version.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        monkeypatch.setattr(bulk, "index", lose)
        history(database, rounds=1)
        with app(database) as connection, capture_logs() as logged:
            request(connection, VIEW)
            with pytest.raises(psycopg.OperationalError):
                Rebuilder(database.app, PROJECTIONS).step(connection)
        with app(database) as connection:
            assert underway(connection, PROJECTIONS) == [VIEW]
        assert "projections.rebuild_failed" not in {line["event"] for line in logged}


def killed_at_any_moment(database: Database, projection: Projection, *, rounds: int) -> None:
    history(database, rounds=2)
    before = content(database, projection)
    context = multiprocessing.get_context("fork")
    luck = random.Random(20210810)
    seen = {1}
    for round_ in range(rounds):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_rebuild_for_ever, args=(database.app, projection, sender))
        child.start()
        sender.close()
        if round_ % 2:  # half of them around the switch
            while receiver.recv() != "switching":
                pass
            _spin(luck.uniform(0, 0.004))
        else:
            for _ in range(luck.randint(1, 60)):
                receiver.recv()
        child.kill()
        child.join()
        receiver.close()
        until(lambda: _is_free(database, projection))
        live = select(
            database,
            "SELECT version FROM ledger.projection_positions "
            f"WHERE name = '{projection.name}' AND role = 'live'",
        )
        assert len(live) == 1
        seen.add(live[0][0])
        assert content(database, projection) == before
        catch_up(database)
    with app(database) as connection:
        rebuild(connection, projection)
        drop_old(connection, PROJECTIONS)
    assert content(database, projection) == before
    assert len(tables(database, projection.name)) == 1
    assert len(seen) > 1, "no child ever came as far as the switch"


def _rebuild_for_ever(conninfo: str, projection: Projection, pipe: Pipe) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while True:
            rebuild(connection, projection, report=lambda at: pipe.send(at.state))
            drop_old(connection, PROJECTIONS)


def _is_free(database: Database, projection: Projection) -> bool:
    """Whether the database has noticed that whoever rebuilt is gone."""
    with app(database) as connection:
        return locks.try_lock(connection, locks.REBUILD, projection)


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

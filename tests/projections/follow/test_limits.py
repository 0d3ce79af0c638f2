"""B9: the limits of a role are not ours;
a rebuild that is cancelled has failed, unless told to stop.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from projections.follow.view_version import ViewVersion
from projections.rebuild import bulk
from projections.rebuild.requests import Rebuild, latest, request, underway
from projections.rebuild.worker import Rebuilder
from projections.registry import PROJECTIONS
from tests.conftest import APP_ROLE, Database, catch_up
from tests.projections.follow.test_damage import further_events
from tests.projections.follow.test_runner import running
from tests.projections.given_events import position, select, until
from tests.projections.rebuild.lives import VIEW, app, history, tables

LIMITS: Final = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")
LIMIT_MS: Final = 100


@contextmanager
def limited(database: Database) -> Iterator[None]:
    """The role may do nothing that takes longer than a tenth of a second."""
    name = conninfo_to_dict(database.owner)["dbname"]
    known = [
        limit for (limit,) in select(database, "SELECT name FROM pg_settings") if limit in LIMITS
    ]
    with psycopg.connect(database.owner, autocommit=True) as owner:
        for limit in known:
            owner.execute(
                f"ALTER ROLE {APP_ROLE} IN DATABASE {name} SET {limit} = {LIMIT_MS}".encode()
            )
        with (
            pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.TransactionTimeout)),
            psycopg.connect(database.app) as connection,
        ):
            connection.execute("SELECT pg_sleep(1)")
        yield


def sleeping(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, seconds: float
) -> threading.Event:
    """Something that takes longer now, in the database and then outside it;
    set when it has begun.
    """
    begun = threading.Event()
    function = getattr(where, name)

    def slow(version: ViewVersion, *rest: Any) -> None:
        begun.set()
        with version.connection.transaction():
            version.connection.execute("SELECT pg_sleep(%s)", [seconds])
            time.sleep(min(seconds, 2 * LIMIT_MS / 1000))
            function(version, *rest)

    monkeypatch.setattr(where, name, slow)
    return begun


def told(database: Database) -> Rebuild:
    with app(database) as connection:
        found = latest(connection, VIEW)
    assert found is not None
    return found


@pytest.mark.long
def test_a_rebuild_takes_longer_than_its_role_may(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(database)
    sleeping(monkeypatch, bulk, "index", seconds=0.3)
    with limited(database):
        with app(database) as connection:
            request(connection, VIEW)
        with Rebuilder(database.app, PROJECTIONS):
            until(lambda: told(database).finished_at is not None)
    assert (told(database).state, told(database).error) == ("done", None)


def test_a_rebuild_that_somebody_cancels_has_failed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken up again it would be cancelled again, by the same limit, for ever."""
    history(database)
    begun = sleeping(monkeypatch, bulk, "index", seconds=30)
    with app(database) as connection:
        request(connection, VIEW)
    with Rebuilder(database.app, PROJECTIONS):
        assert begun.wait(20)
        until(lambda: bool(cancel(database)))
        until(lambda: told(database).finished_at is not None)
        with app(database) as connection:
            assert underway(connection, PROJECTIONS) == []
    assert (told(database).state, told(database).error) == ("failed", "QueryCanceled")
    assert tables(database) == ["scim_tokens_v1"]


def test_a_rebuild_that_is_told_to_stop_is_asked_for_still(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(database)
    with monkeypatch.context() as patch:
        begun = sleeping(patch, bulk, "index", seconds=30)
        with app(database) as connection:
            request(connection, VIEW)
        with Rebuilder(database.app, PROJECTIONS):
            assert begun.wait(20)
    assert told(database).finished_at is None
    with Rebuilder(database.app, PROJECTIONS):
        until(lambda: told(database).finished_at is not None)
    assert told(database).state == "done"


def test_a_view_follows_longer_than_its_role_may(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(database)
    with limited(database), running(database):
        sleeping(monkeypatch, ViewVersion, "set_last", seconds=0.3)
        further_events(database)
        until(lambda: position(database).lag == 0)
    catch_up(database)


def test_a_batch_that_somebody_cancels_is_applied_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(database)
    with running(database):
        with monkeypatch.context() as patch:
            begun = sleeping(patch, ViewVersion, "set_last", seconds=20)
            further_events(database)
            assert begun.wait(20)
        until(lambda: bool(cancel(database)))
        until(lambda: position(database).lag == 0)
    assert position(database).state == "live"


def cancel(database: Database) -> list[tuple[Any, ...]]:
    """Cancel what sleeps in the database; nothing where nobody does yet."""
    return select(
        database,
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' "
        "AND state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()",
    )

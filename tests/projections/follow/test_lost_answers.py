"""The views go on where an answer never comes, and neither does the end of the connection.

So it is where a pooler or a proxy holds the connection and has lost what is behind it: no
keep-alive finds that out, and the leader's session lives on, with its locks.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

import projections.runner as running_views
from domain.postgres.connection import open_connection
from domain.postgres.session import FOLLOWING
from projections.follow.patience import EACH_EVENT_S, LOOKED_WITHIN_S, Patience
from projections.rebuild.requests import latest, request
from projections.rebuild.worker import LOOKED_WITHIN_S as REBUILD_LOOKED_WITHIN_S
from projections.registry import PROJECTIONS
from projections.runner import BATCH, Runner
from tests.conftest import Database
from tests.domain.scenario import T0, created
from tests.faults.proxy import Fault, Proxy, ProxyThread, proxy_thread
from tests.projections.follow.test_runner import has_caught_up, leaders, running
from tests.projections.given_events import record, until
from tests.projections.rebuild.lives import VIEW, app
from tests.turns import by_turns

BACK_WITHIN_S: Final = 5.0
LOADED_S: Final = 1.5
"""What a busy machine adds."""
IN_A_BATCH_S: Final = FOLLOWING.idle_ms / 1000
AWAY_S: Final = 2.0
TRIES: Final = 8
LOST: Final = ("projections.store_unavailable", "projections.rebuilder_disconnected")
OVER: Final = ("projections.store_available_again", "projections.rebuilder_connected_again")
STATEMENTS: Final = [
    ("waiting_since", BACK_WITHIN_S),  # looks for news
    ("BEGIN", BACK_WITHIN_S),
    ("FROM ledger.events", BACK_WITHIN_S),
    ("INSERT INTO views", IN_A_BATCH_S + BACK_WITHIN_S),
    ("COMMIT", IN_A_BATCH_S + BACK_WITHIN_S),
]
"""Of the leader, those of a batch in their order, and when the views are back, seconds."""


@contextmanager
def followed_through_a_proxy(database: Database) -> Iterator[ProxyThread]:
    """A runner's only way; in the end nothing is stuck that it might wait for."""
    with proxy_thread(database.app) as proxy, running(Database(database.owner, proxy.conninfo)):
        try:
            yield proxy
        finally:
            proxy.tell(Proxy.cut)


@pytest.mark.parametrize(("statement", "within_s"), by_turns(STATEMENTS, one_of=5))
def test_the_views_are_back_whatever_was_not_answered(
    database: Database, statement: str, within_s: float
) -> None:
    with followed_through_a_proxy(database) as proxy:
        until(lambda: len(leaders(database)) == 1)
        record(database, created(T0))
        until(lambda: has_caught_up(database))
        proxy.tell(lambda it: it.strike(Fault.STUCK, statement))
        record(database, created(T0))
        until(lambda: proxy.fired == 1)
        until(lambda: has_caught_up(database), within_s=within_s + LOADED_S)


@pytest.mark.long
def test_a_rebuild_is_carried_out_by_whoever_was_lost_before_it_was_asked_for(
    database: Database,
) -> None:
    with followed_through_a_proxy(database) as proxy:
        until(lambda: len(leaders(database)) == 1)
        record(database, created(T0))
        until(lambda: has_caught_up(database))
        proxy.tell(Proxy.black_hole)
        with app(database) as connection:
            request(connection, VIEW)
            until(
                lambda: getattr(latest(connection, VIEW), "state", None) == "done",
                within_s=REBUILD_LOOKED_WITHIN_S + BACK_WITHIN_S + LOADED_S,
            )


def test_a_large_batch_is_waited_for_as_long_as_the_server_works_on_it(database: Database) -> None:
    whole = LOOKED_WITHIN_S + EACH_EVENT_S * BATCH
    assert FOLLOWING.answer_within_s is not None
    assert FOLLOWING.statement_ms / 1000 < FOLLOWING.answer_within_s <= whole
    patience, granted = Patience(), []
    with open_connection(database.app, session=FOLLOWING) as connection:
        for _ in range(3):
            with patience.within(connection, events=10):
                granted.append(connection.answer_within_s)
            assert connection.answer_within_s == FOLLOWING.answer_within_s
            patience.failed()
        first = LOOKED_WITHIN_S + 10 * EACH_EVENT_S
        assert granted == pytest.approx([first, 2 * first, 4 * first])
        for took_s, factor in ((LOOKED_WITHIN_S, 8), (0.01, 1)):
            patience.worked(took_s)
            with patience.within(connection):
                assert connection.answer_within_s == factor * LOOKED_WITHIN_S


def test_a_database_that_is_away_is_told_once_and_so_is_its_return(database: Database) -> None:
    with capture_logs() as logged, followed_through_a_proxy(database) as proxy:
        until(lambda: len(leaders(database)) == 1)
        proxy.tell(Proxy.refuse)
        until(lambda: {line["event"] for line in logged} >= {*LOST})
        time.sleep(AWAY_S)  # several attempts
        proxy.tell(Proxy.accept)
        until(lambda: {line["event"] for line in logged} >= {*OVER})
        told = Counter(line["event"] for line in logged)
    assert {event: told[event] for event in (*LOST, *OVER)} == dict.fromkeys((*LOST, *OVER), 1)


def test_however_long_it_is_away_the_views_try_again_after_seconds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_views, "MAX_BACKOFF_S", 0.1)
    nobody_there = make_conninfo(database.app, host="127.0.0.1", hostaddr="", port=1)
    tries = 0

    def should_stop() -> bool:
        nonlocal tries
        tries += 1
        return tries > TRIES or time.monotonic() > began + TRIES * 0.1 + BACK_WITHIN_S

    began = time.monotonic()
    Runner(nobody_there, PROJECTIONS).run(should_stop)
    assert tries > TRIES
    assert time.monotonic() - began >= (TRIES - 1) * 0.1, "and not at once"

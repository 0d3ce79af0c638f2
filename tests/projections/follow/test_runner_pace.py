"""How often the runner looks: when woken, seldom while events keep coming,
at once when a query waits.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from domain.eventstore.event_registry import EventRegistry
from projections import runner as running
from projections.follow.wake_ups import Waker, WakeUps
from projections.projection import LogEntry, Projection
from projections.runner import Runner
from projections.view_reader import ViewReader
from tests.conftest import Database, open_ledger
from tests.domain.scenario import T0, created, used
from tests.projections.follow.test_runner import Counting, counting
from tests.projections.given_events import position, record, select, until


@contextmanager
def driven(database: Database, projection: Projection, wake: tuple[int, int]) -> Iterator[None]:
    stop = threading.Event()
    runner = Runner(database.app, [projection], wake_fd=wake[0])
    thread = threading.Thread(target=runner.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        Waker(wake[1]).awaited()  # or it would poll once more before it looks
        thread.join()


@pytest.fixture
def wake() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_an_append_wakes_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, wake: tuple[int, int]
) -> None:
    """With polling as good as off."""
    monkeypatch.setattr(running, "POLL_S", 60.0)
    with driven(database, counting("counter"), wake):
        Waker(wake[1]).appended()
        until(lambda: select(database, "SELECT to_regclass('views.counter_v1')") != [(None,)])
        record(database, created(T0))
        Waker(wake[1]).appended()
        until(lambda: position(database, "counter").position == 1, within_s=10)


@pytest.mark.long
@pytest.mark.parametrize(
    ("busy_share", "apart_s", "batch_s"),
    [
        pytest.param(0.001, 0.25, 0.0, id="at most so far apart"),
        pytest.param(0.2, 60.0, 0.05, id="as what they take has it"),
    ],
)
def test_many_commits_are_applied_in_few_batches(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    wake: tuple[int, int],
    *,
    busy_share: float,
    apart_s: float,
    batch_s: float,
) -> None:
    """A quarter of a second apart, either way."""
    monkeypatch.setattr(running, "BUSY_SHARE", busy_share)
    monkeypatch.setattr(running, "APART_S", apart_s)
    batches: list[int] = []

    class Noticing(Counting):
        def fold(
            self, rows: dict[Any, Any], entries: Iterable[LogEntry], registry: EventRegistry
        ) -> None:
            entries = list(entries)
            batches.append(len(entries))
            time.sleep(batch_s)
            super().fold(rows, entries, registry)

    with driven(database, counting("counter", Noticing), wake):
        began = time.monotonic()
        for _ in range(60):
            record(database, created(T0), used(T0))
            Waker(wake[1]).appended()
        until(lambda: position(database, "counter").lag == 0)
        elapsed_s = time.monotonic() - began
    assert sum(batches) == 120
    assert len(batches) <= elapsed_s / 0.25 + 2


def test_a_query_does_not_wait_for_the_pace(
    database: Database, monkeypatch: pytest.MonkeyPatch, wake: tuple[int, int]
) -> None:
    monkeypatch.setattr(running, "BUSY_SHARE", 0.0001)
    monkeypatch.setattr(running, "APART_S", 60.0)
    counter, waker = counting("counter"), Waker(wake[1])

    async def count(*, ledger_head: int) -> list[tuple[Any, ...]]:
        async with open_ledger(database.app) as ledger:
            return await ViewReader(ledger.reads, counter, waker=waker).rows(
                "SELECT true, sum(events)::int FROM {table}", [], ledger_head=ledger_head
            )

    with driven(database, counter, wake):
        until(lambda: select(database, "SELECT to_regclass('views.counter_v1')") != [(None,)])
        record(database, created(T0))
        waker.appended()
        until(lambda: position(database, "counter").position == 1)
        record(database, created(T0))
        waker.appended()
        time.sleep(0.2)
        assert position(database, "counter").position == 1, "it waits for more"
        assert asyncio.run(count(ledger_head=2)) == [(2,)]


def test_a_full_pipe_holds_nobody_up(wake: tuple[int, int]) -> None:
    waker, wake_ups = Waker(wake[1]), WakeUps(wake[0])
    for _ in range(70_000):
        waker.appended()
    waker.awaited()
    assert not wake_ups.wait(1), "there was no room for that"
    waker.awaited()
    assert wake_ups.wait(1)


def test_commands_of_more_than_a_day_ago_are_forgotten(
    database: Database, wake: tuple[int, int]
) -> None:
    """By ledger time, which is the instant of the last event."""
    record(database, created(T0))
    ages = {hours: uuid4() for hours in (0, 24, 26, 1000)}
    with psycopg.connect(database.owner) as owner:
        for hours, command_id in ages.items():
            owner.execute(
                "INSERT INTO ledger.commands (command_id, attempt, originator_id, request, at) "
                "VALUES (%s, %s, %s, '', %s)",
                [command_id, command_id, command_id, T0 - timedelta(hours=hours)],
            )
    kept = {(ages[0],), (ages[24],)}
    with driven(database, counting("counter"), wake):
        until(lambda: set(select(database, "SELECT command_id FROM ledger.commands")) == kept)

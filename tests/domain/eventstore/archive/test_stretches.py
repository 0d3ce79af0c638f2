"""Where a stretch ends, whatever positions and instants the events have."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.eventstore.archive import stretches
from domain.eventstore.archive.stretches import Span, horizon, last_before, next_span
from tests.conftest import new_database
from tests.domain.scenario import MILLISECOND, MINUTE, T0

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
FAR: Final = 10**15
"""A position that no ledger of ours will ever come to."""


class Row(NamedTuple):
    position: int
    at: datetime


STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 5, 1000, FAR]),
        st.sampled_from([timedelta(0), MILLISECOND, MINUTE, 59 * MINUTE, HOUR, 30 * HOUR]),
    ),
    max_size=12,
)


def rows_of(steps: Sequence[tuple[int, timedelta]]) -> list[Row]:
    found: list[Row] = []
    position, at = 0, T0 + 30 * MINUTE
    for gap, later in steps:
        position, at = position + gap, at + later
        found.append(Row(position, at))
    return found


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        new_database(server) as database,
        psycopg.connect(database.owner, autocommit=True) as connection,
    ):
        yield connection


def put(owner: psycopg.Connection[Any], rows: Sequence[Row]) -> None:
    owner.execute("TRUNCATE ledger.events")
    with owner.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.events (notification_id, originator_id, originator_version,"
            " command_id, topic, at, state) VALUES (%s, %s, %s, %s, 'any', %s, '{}')",
            [
                (row.position, UUID(int=1), version, UUID(int=2), row.at)
                for version, row in enumerate(rows, start=1)
            ],
        )


def full_hour(at: datetime) -> datetime:
    return at - timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond)


def looked_through(rows: Sequence[Row], after: int, before: datetime, size: int) -> Span | None:
    """The same, one row after the other."""
    behind = [row for row in rows if row.position > after]
    if not behind or behind[0].at >= before:
        return None
    larger = next((row for row in behind if row.position > after + size), None)
    end = before
    if larger is not None:
        end = min(before, max(full_hour(larger.at), full_hour(behind[0].at) + HOUR))
    return Span(after, max(row.position for row in behind if row.at < end), end)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 60), st.integers(1, 6))
def test_stretches_follow_each_other_up_to_the_horizon(
    owner: psycopg.Connection[Any], steps: list[tuple[int, timedelta]], hours: int, size: int
) -> None:
    rows, before, after = rows_of(steps), T0 + hours * HOUR, 0
    put(owner, rows)
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches, "EVENTS", size)
        while span := next_span(owner, after=after, horizon=before):
            assert span == looked_through(rows, after, before, size)
            assert span.before == full_hour(span.before) <= before
            after = span.until
    assert looked_through(rows, after, before, size) is None
    old = [row.position for row in rows if row.at < before]
    assert after == max(old, default=0)
    assert last_before(owner, before, after=0) == max(old, default=None)


@pytest.mark.parametrize("ahead", [timedelta(0), -800 * DAY, 800 * DAY])
def test_the_horizon_is_of_the_clock_that_is_behind(
    owner: psycopg.Connection[Any], ahead: timedelta
) -> None:
    """A clock that is ahead, or was when events were recorded, makes nothing old."""
    put(owner, [])
    assert horizon(owner, DAY) is None
    ((now,),) = owner.execute("SELECT clock_timestamp()").fetchall()
    put(owner, [Row(1, now + ahead)])
    found = horizon(owner, 400 * DAY)
    assert found is not None
    assert found == full_hour(found)
    assert timedelta(0) <= min(now, now + ahead) - 400 * DAY - found <= HOUR

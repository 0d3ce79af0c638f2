"""What a repair finds, keeps, changes and forgets: that of its stretch and its streams, whatever
else there is.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.eventstore import repair
from domain.postgres.sql_file import statements
from projections import runner
from tests.conftest import new_database

SQL: Final = repair._SQL
IS_LATE: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")["is_late"]
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
AHEAD_MAX: Final = timedelta(seconds=90)
TOPICS: Final = ("told", "of", "none")
TOLD: Final = ["told", "of"]


class Event(NamedTuple):
    """stream, version: which of its own. ahead: minutes from now; command: its number."""

    stream: int
    topic: str
    ahead: int
    command: int


class Command(NamedTuple):
    number: int
    age: int


EVENTS: Final = st.lists(
    st.builds(
        Event,
        st.integers(1, 3),
        st.sampled_from(TOPICS),
        st.sampled_from([-60, -2, 1, 2, 60]),
        st.integers(1, 5),
    ),
    max_size=6,
)
STREAMS: Final = st.sets(st.integers(1, 4))


def position(place: int) -> int:
    return 10 * (place + 1)


def stream(number: int) -> UUID:
    return UUID(int=number)


def command(number: int) -> UUID:
    return UUID(int=100 + number)


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    """In a transaction of one instant, `now`; what is written is rolled back."""
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


def now_of(owner: psycopg.Connection[Any]) -> datetime:
    row = owner.execute("SELECT now()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def put(owner: psycopg.Connection[Any], events: Sequence[Event], now: datetime) -> list[Any]:
    """Write them; the rows of the table."""
    rows: list[Any] = []
    for place, event in enumerate(events):
        version = 1 + sum(before.stream == event.stream for before in events[:place])
        at = now + event.ahead * MINUTE
        rows.append(
            (
                *(position(place), stream(event.stream), version, event.topic, at),
                *(command(event.command), b"state %d" % place),
            )
        )
    with owner.cursor() as cursor:
        insert = "INSERT INTO ledger.events VALUES (%s, %s, %s, %s, %s, %s, %s)"
        cursor.executemany(insert, rows[::-1])  # so that no order is one by chance
    return rows


@settings(max_examples=80)
@given(events=EVENTS, asked=STREAMS, first=st.sampled_from([0, 10, 20, 25]))
def test_the_stretch_is_what_is_ahead_and_its_streams_are_read_whole(
    owner: psycopg.Connection[Any], *, events: list[Event], asked: set[int], first: int
) -> None:
    now = now_of(owner)
    rows = put(owner, events, now)
    (stretch,) = owner.execute(SQL["stretch"], [AHEAD_MAX]).fetchall()
    of_stretch = owner.execute(SQL["events"], [first]).fetchall()
    touched = owner.execute(SQL["touched_streams"], [first]).fetchall()
    replayed = owner.execute(SQL["replay"], [[stream(each) for each in asked]]).fetchall()
    late = owner.execute(IS_LATE, [MINUTE * 90, first]).fetchall()
    later = owner.execute(IS_LATE, [MINUTE * 5, first]).fetchall()
    owner.rollback()

    jumped = [row for row in rows if row[4] - now > AHEAD_MAX]
    clock = stretch[3]
    assert timedelta(0) <= clock - now + timedelta(milliseconds=1) < MINUTE
    if jumped:
        before = [row[4] for row in rows if row[0] < jumped[0][0]]
        since = max(before, default=clock)
        assert stretch == (
            *(jumped[0][0], jumped[-1][0], max(row[4] for row in jumped), clock),
            since,
        )
    else:
        assert stretch == (None, None, None, clock, clock)
    behind = [row for row in rows if row[0] >= first]
    assert of_stretch == [(row[0], row[3], row[4], row[6]) for row in behind]
    assert sorted(touched) == sorted({(row[1],) for row in behind})
    assert replayed == [
        (row[1], row[2], row[4], row[5], row[3], row[6], row[0])
        for row in sorted(rows, key=lambda row: row[1:3])
        if row[1] in {stream(each) for each in asked}
    ]
    unknown = [row for row in rows if row[0] > first]
    assert late == [(False,) for _ in unknown[:1]]
    assert later == [(row[4] < now - 5 * MINUTE,) for row in unknown[:1]]


@settings(max_examples=80)
@given(events=EVENTS, chosen=st.sets(st.integers(0, 6)))
def test_an_event_is_kept_before_it_is_changed_and_no_other_is(
    owner: psycopg.Connection[Any], *, events: list[Event], chosen: set[int]
) -> None:
    now = now_of(owner)
    rows = put(owner, events, now)
    (made,) = owner.execute(SQL["record"], ["ledger-time", "ada@bastion", "it jumped"]).fetchall()
    ids = [position(place) for place in chosen]
    changed = [("moved", now - each * MINUTE, b"moved %d" % each) for each in ids]
    owner.execute(SQL["keep"], [made[0], ids])
    columns = [[each[place] for each in changed] for place in range(3)]
    owner.execute(SQL["set_back"], [ids, *columns])
    kept = owner.execute("SELECT * FROM ledger.repaired_events").fetchall()
    after = owner.execute("SELECT * FROM ledger.events ORDER BY notification_id").fetchall()
    owner.rollback()
    moved = dict(zip(ids, changed, strict=True))
    assert sorted(kept) == [
        (row[0], made[0], row[3], row[4], row[6]) for row in rows if row[0] in moved
    ]
    expected = []
    for row in rows:
        topic, at, state = moved.get(row[0], (row[3], row[4], row[6]))
        expected.append((*row[:3], topic, at, row[5], state))
    assert after == expected


@settings(max_examples=80)
@given(
    events=EVENTS,
    commands=st.lists(
        st.builds(Command, st.integers(1, 5), st.sampled_from([-26, -24, -1, 0, 1, 26])),
        unique_by=lambda each: each.number,
        max_size=5,
    ),
    first=st.sampled_from([0, 10, 20, 25]),
)
def test_commands_of_what_was_told_are_forgotten_and_none_is_of_the_future(
    owner: psycopg.Connection[Any], *, events: list[Event], commands: list[Command], first: int
) -> None:
    now = now_of(owner)
    put(owner, events, now)
    insert = "INSERT INTO ledger.commands VALUES (%s, %s, %s, '', %s)"
    known = {command(each.number): now + each.age * HOUR for each in commands}
    with owner.cursor() as cursor:
        cursor.executemany(insert, [(id_, id_, id_, at) for id_, at in known.items()])

    def remembered() -> dict[UUID, datetime]:
        return dict(owner.execute("SELECT command_id, at FROM ledger.commands").fetchall())

    with owner.transaction(force_rollback=True):
        owner.execute(runner._SQL["forget_commands"])
        young = remembered()
    owner.execute(SQL["forget_commands"], [first, TOLD])
    kept = remembered()
    owner.execute(SQL["set_commands_back"], {"now": now})
    back = remembered()
    owner.rollback()

    told = {
        command(event.command)
        for place, event in enumerate(events)
        if position(place) >= first and event.topic in TOLD
    }
    assert kept == {id_: at for id_, at in known.items() if id_ not in told}
    assert back == {id_: min(at, now) for id_, at in kept.items()}
    oldest = now + events[-1].ahead * MINUTE - 25 * HOUR if events else None
    assert young == {id_: at for id_, at in known.items() if oldest is None or at >= oldest}


TABLES: Final = {
    "stream_heads": "INSERT INTO ledger.stream_heads (originator_id, version) VALUES (%s, 1)",
    "api_tokens": "INSERT INTO ledger.api_tokens VALUES (%s, now(), now(), NULL, true, false)",
    "aggregates": "INSERT INTO ledger.aggregates VALUES (%s, 'policy', '{}')",
}


@settings(max_examples=40)
@given(
    kept=STREAMS,
    secrets=st.dictionaries(st.integers(1, 5), st.integers(1, 4), max_size=4),
    asked=STREAMS,
    derived=st.sets(st.integers(1, 6)),
)
def test_what_is_derived_of_some_streams_is_forgotten_and_a_secret_that_no_event_tells_of_stays(
    owner: psycopg.Connection[Any],
    *,
    kept: set[int],
    secrets: dict[int, int],
    asked: set[int],
    derived: set[int],
) -> None:
    """secrets: the stream of each. derived: those that events tell of."""
    for statement in TABLES.values():
        for each in kept:
            owner.execute(statement.encode(), [stream(each)])
    for number, of in secrets.items():
        owner.execute(
            "INSERT INTO ledger.secrets VALUES (%s, %s, NULL, 'infinity', 'before')",
            [bytes([number]) * 32, stream(of)],
        )
    named = sorted(derived)[:2]
    owner.execute(
        SQL["name_secrets"], [[bytes([each]) * 32 for each in named], [str(each) for each in named]]
    )
    names = owner.execute("SELECT digest, shown_as FROM ledger.secrets").fetchall()
    owner.execute(
        SQL["forget_derived"],
        {
            "ids": [stream(each) for each in asked],
            "digests": [bytes([each]) * 32 for each in derived],
        },
    )
    left = {
        table: {
            each for (each,) in owner.execute(f"SELECT originator_id FROM ledger.{table}".encode())
        }
        for table in TABLES
    }
    digests = {digest for (digest,) in owner.execute("SELECT digest FROM ledger.secrets")}
    owner.rollback()
    assert dict(names) == {
        bytes([each]) * 32: str(each) if each in named else "before" for each in secrets
    }
    assert left == {table: {stream(each) for each in kept - asked} for table in TABLES}
    assert digests == {bytes([each]) * 32 for each in secrets.keys() - derived}

"""The runner: exactly once, in order, never past an event that it cannot apply, whoever leads."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.event_registry import REGISTRY, EventRegistry
from domain.scim_token.events import Created
from projections.follow import read_log
from projections.follow.apply import BatchApplier
from projections.follow.locks import LEADER
from projections.follow.positions import ensure_live
from projections.follow.view_version import PositionMoved, ViewVersion
from projections.projection import LogEntry, Projection, UnappliableEvent
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.scim_tokens import view as scim_tokens
from tests.conftest import Database, catch_up, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.scenario import T0, T1, T2, created, revoked, used
from tests.projections.given_events import position, record, select, until
from tests.turns import by_turns

ROWS = "SELECT * FROM views.scim_tokens_v1 ORDER BY id"


class CountRow(msgspec.Struct):
    """How many events an aggregate has."""

    id: UUID
    events: int


class Counting(Projection):
    """How many events each aggregate has. It can apply anything, since it decodes nothing."""

    def fold(self, rows: dict[Any, Any], entries: Iterable[LogEntry], _: EventRegistry) -> None:
        for entry in entries:
            rows.setdefault(entry.originator_id, CountRow(entry.originator_id, 0)).events += 1

    @property
    def replaced(self) -> Mapping[str, str]:
        return {"events": "stored.events + excluded.events"}


def counting(name: str, kind: type[Counting] = Counting) -> Counting:
    return kind(
        name=name,
        shape=1,
        row=CountRow,
        columns={"id": "uuid", "events": "bigint NOT NULL"},
        topics=scim_tokens.PROJECTION.topics,
    )


def read(database: Database, *, after: int = 0) -> list[LogEntry]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        return read_log.read(connection, after=after, limit=1000)


def step(database: Database, projections: Sequence[Projection] = PROJECTIONS) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        for projection in projections:
            ensure_live(connection, projection)
        Runner(database.app, projections).catch_up(connection)


class TestExactlyOnce:
    def test_a_batch_that_is_delivered_twice_is_applied_once(self, database: Database) -> None:
        counter = counting("counter")
        record(database, created(T0), used(T1), used(T2))
        step(database, [counter])
        before = select(database, "TABLE views.counter_v1")
        with (
            psycopg.connect(database.app, autocommit=True) as connection,
            pytest.raises(PositionMoved),
        ):
            BatchApplier(REGISTRY).apply(
                ViewVersion(connection, counter, 1), read(database), after=0
            )
        assert select(database, "TABLE views.counter_v1") == before
        assert [events for _, events in before] == [3]

    def test_a_version_that_is_not_in_its_role_any_more_is_left_alone(
        self, database: Database
    ) -> None:
        record(database, created(T0))
        with (
            psycopg.connect(database.app, autocommit=True) as connection,
            pytest.raises(PositionMoved),
        ):
            BatchApplier(REGISTRY).apply(
                ViewVersion(connection, scim_tokens.PROJECTION, 1, "building"),
                read(database),
                after=0,
            )
        assert select(database, ROWS) == []

    @pytest.mark.parametrize("batch", by_turns([1, 2, 3, 1000], one_of=2))
    def test_batches_of_any_size_lead_to_the_same_rows(
        self, database: Database, batch: int
    ) -> None:
        counter = counting("counter")
        record(database, created(T0), used(T0), used(T0), revoked(T0))
        record(database, created(T0), used(T1))
        with psycopg.connect(database.app, autocommit=True) as connection:
            ensure_live(connection, counter)
            batches = Runner(database.app, [counter], batch=batch).catch_up(connection)
        assert batches == -(-6 // batch)
        assert sorted(events for _, events in select(database, "TABLE views.counter_v1")) == [2, 4]
        assert position(database, "counter").position == 6

    def test_runners_at_once_apply_each_event_once(self, database: Database) -> None:
        """Even when both believe to lead: positions move only from where they were read."""
        counter = counting("counter")
        for _ in range(10):
            record(database, created(T0), used(T0), used(T0))
        step(database, [])
        with psycopg.connect(database.app, autocommit=True) as connection:
            ensure_live(connection, counter)

        def work() -> None:
            with psycopg.connect(database.app, autocommit=True) as connection:
                Runner(database.app, [counter], batch=2).catch_up(connection)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [events for _, events in select(database, "TABLE views.counter_v1")] == [3] * 10


Apply = Callable[[psycopg.Connection, Projection, Sequence[LogEntry]], None]


def whole(
    connection: psycopg.Connection, projection: Projection, entries: Sequence[LogEntry]
) -> None:
    BatchApplier(REGISTRY).apply(ViewVersion(connection, projection, 1), entries, after=0)


def rows_then_position(
    connection: psycopg.Connection, projection: Projection, entries: Sequence[LogEntry]
) -> None:
    version = ViewVersion(connection, projection, 1)
    rows: dict[Any, Any] = {}
    projection.fold(rows, entries, REGISTRY)
    version.put(list(rows.values()))
    version.move(entries[-1].position, after=0)


def position_then_rows(
    connection: psycopg.Connection, projection: Projection, entries: Sequence[LogEntry]
) -> None:
    version = ViewVersion(connection, projection, 1)
    rows: dict[Any, Any] = {}
    projection.fold(rows, entries, REGISTRY)
    version.move(entries[-1].position, after=0)
    version.put(list(rows.values()))


def is_atomic(database: Database, apply: Apply) -> bool:
    """Whether rows and position move together when the database fails between them,
    either way round.
    """
    for table in ("views.scim_tokens_v1", "ledger.projection_positions"):
        with psycopg.connect(database.owner) as owner:
            owner.execute(
                "CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql "
                "AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'crash_shutdown'; END $$"
            )
            owner.execute(
                f"CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION "
                f"public.fail()"
            )
        with (
            psycopg.connect(database.app, autocommit=True) as connection,
            pytest.raises(psycopg.OperationalError),
        ):
            apply(connection, scim_tokens.PROJECTION, read(database))
        with psycopg.connect(database.owner) as owner:
            owner.execute(f"DROP TRIGGER fail ON {table}")
        if (position(database).position, select(database, ROWS)) != (0, []):
            return False
    return True


class TestAtomic:
    def test_rows_and_position_move_together_or_not_at_all(self, database: Database) -> None:
        record(database, created(T0), used(T1))
        assert is_atomic(database, whole)
        catch_up(database)
        assert (position(database).position, len(select(database, ROWS))) == (2, 1)

    @pytest.mark.long
    @pytest.mark.parametrize("broken", [rows_then_position, position_then_rows])
    def test_the_check_above_notices_two_transactions(
        self, database: Database, broken: Apply
    ) -> None:
        record(database, created(T0), used(T1))
        assert not is_atomic(database, broken)


GOOD = REGISTRY.encode(created(T0)[0])
NUL_IN_NAME = GOOD.replace(b'"Okta"', rb'"Ok\u0000ta"')
POISON = {
    "undecodable": (Created.topic, b'{"hunter2"', "UnreadableEvent"),
    "unknown field": (
        Created.topic,
        GOOD.replace(b'"name"', b'"hunter2":1,"name"'),
        "UnreadableEvent",
    ),
    "not storable": (Created.topic, NUL_IN_NAME, "CharacterNotInRepertoire"),
    "of no token": ("scim_token.used.v1", b"{}", "LookupError"),
}


class TestPoison:
    @pytest.mark.parametrize("poison", by_turns(POISON, one_of=2))
    def test_a_view_stops_right_before_an_event_that_it_cannot_apply(
        self, database: Database, poison: str
    ) -> None:
        topic, state, error = POISON[poison]
        everything = [counting("a_counter"), *PROJECTIONS, counting("z_counter")]
        first = record(database, created(T0), used(T0))
        with psycopg.connect(database.owner) as owner:
            owner.execute(
                "INSERT INTO ledger.events (originator_id, originator_version, topic, at, "
                "command_id, state) "
                "VALUES (%s, 1, %s, %s, gen_random_uuid(), %s)",
                [uuid4(), topic, T0, state],
            )
        record(database, created(T1))
        step(database, everything)

        stopped = position(database)
        assert (stopped.position, stopped.stopped_at, stopped.state) == (2, 3, "stopped")
        assert stopped.error == f"{error} on a {topic}"
        assert [row[0] for row in select(database, ROWS)] == [first]
        for name in ("a_counter", "z_counter"):
            assert (position(database, name).position, position(database, name).state) == (
                4,
                "live",
            )
        record(database, created(T2))
        step(database, everything)
        assert position(database) == replace(stopped, head=5)
        assert position(database, "z_counter").position == 5

        with psycopg.connect(database.owner) as owner:
            owner.execute(
                "UPDATE ledger.events SET topic = %s, state = %s WHERE notification_id = 3",
                [Created.topic, GOOD],
            )
            owner.execute("UPDATE ledger.projection_positions SET stopped_at = NULL, error = NULL")
        step(database, everything)
        assert (position(database).position, position(database).state) == (5, "live")
        assert len(select(database, ROWS)) == 4

    @pytest.mark.long
    def test_what_is_before_the_poison_is_applied_also_in_a_large_batch(
        self, database: Database
    ) -> None:
        for _ in range(9):
            record(database, created(T0), used(T0), used(T0))
        with psycopg.connect(database.owner) as owner:
            owner.execute("UPDATE ledger.events SET state = '{' WHERE notification_id = 22")
        with (
            psycopg.connect(database.app, autocommit=True) as connection,
            pytest.raises(UnappliableEvent) as caught,
        ):
            BatchApplier(REGISTRY).apply(
                ViewVersion(connection, scim_tokens.PROJECTION, 1), read(database), after=0
            )
        assert caught.value.position == 22
        assert position(database).position == 21
        assert len(select(database, ROWS)) == 7


@contextmanager
def running(database: Database) -> Iterator[threading.Event]:
    """A runner in a thread of its own; set the event to stop it early."""
    stop = threading.Event()
    thread = threading.Thread(target=Runner(database.app, PROJECTIONS).run, args=(stop.is_set,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def leaders(database: Database) -> set[int]:
    """Backends that hold the leader's lock."""
    return {
        pid
        for (pid,) in select(
            database,
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database "
            f"WHERE locktype = 'advisory' AND classid = {LEADER} AND objsubid = 2 "
            "AND granted AND datname = current_database()",
        )
    }


def has_caught_up(database: Database) -> bool:
    at = position(database)
    return at.lag == 0 and at.stopped_at is None


class TestLeading:
    def test_a_runner_follows_what_is_appended(self, database: Database) -> None:
        async def append() -> None:
            async with open_ledger(database.app) as ledger:
                for _ in range(5):
                    await ledger.create_scim_token(
                        NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                    )

        with running(database):
            asyncio.run(append())
            until(lambda: has_caught_up(database))
        assert len(select(database, ROWS)) == 5
        assert_consistent(database)

    def test_one_of_two_leads_and_the_other_takes_over_when_it_stops(
        self, database: Database
    ) -> None:
        with running(database) as stop_first:
            until(lambda: len(leaders(database)) == 1)
            first = leaders(database)
            with running(database):
                record(database, created(T0))
                until(lambda: has_caught_up(database))
                assert leaders(database) == first
                stop_first.set()
                until(lambda: bool(leaders(database) - first))
                record(database, created(T1))
                until(lambda: has_caught_up(database))
        assert len(select(database, ROWS)) == 2

    @pytest.mark.parametrize("runners", by_turns([1, 2], one_of=2))
    def test_a_view_goes_on_when_the_leaders_connection_is_cut(
        self, database: Database, runners: int
    ) -> None:
        with ExitStack() as stack:
            for _ in range(runners):
                stack.enter_context(running(database))
            for round_ in range(2):
                until(lambda: bool(leaders(database)))
                for leader in leaders(database):  # two, where each took up some of the views
                    select(database, f"SELECT pg_terminate_backend({leader})")
                record(database, created(T0), used(T0))
                until(lambda: has_caught_up(database))
                assert len(select(database, ROWS)) == round_ + 1

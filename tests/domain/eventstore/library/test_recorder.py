"""The library's interface on our tables:
replay, the notification log, a correct insert, least privilege.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import IntegrityError
from psycopg.conninfo import make_conninfo

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import NotFound, StoreUnavailable
from domain.event import Actor, Recorded
from domain.eventstore.library.factory import LedgerFactory
from domain.ledger import TokenLedger
from domain.scim_token import events as scim_token
from domain.scim_token.events import Presentation
from domain.scim_token.token import ScimToken
from domain.secret import Digest
from projections.follow import read_log
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.scenario import ADA, MILLISECOND, T0, T1, T2, T4
from tests.turns import by_turns

IDP = Presentation(door="scim")


@contextmanager
def ledger_of(database: Database) -> Iterator[TokenLedger]:
    """A ledger whose synchronous half is what the test is about."""
    ledger = TokenLedger(believing_any_clock(database), pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)
    try:
        yield ledger
    finally:
        asyncio.run(ledger.aclose())


def end_sessions(database: Database) -> None:
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def stream(id_: UUID | None = None) -> list[Recorded]:
    """A token's life: created, used, revoked."""
    id_ = id_ or uuid4()
    events = (
        scim_token.Created(
            team_id=uuid4(),
            name="Okta",
            created_by=ADA,
            digest=Digest(id_.bytes * 2, 1),
            expires_at=None,
        ),
        scim_token.Used(count=3, first_at=T1, presentation=IDP),
        scim_token.Revoked(revoked_by=Actor(uuid4(), None), reason="x"),
    )
    return [
        Recorded(id_, version, at, uuid4(), event)
        for version, (at, event) in enumerate(zip((T0, T1, T2), events, strict=True), start=1)
    ]


class TestReplay:
    def test_what_was_saved_is_replayed(self, database: Database) -> None:
        life = stream()
        with ledger_of(database) as ledger:
            ledger.save(*life)
            assert list(ledger.events.get(life[0].originator_id)) == life
            token = ledger.replay(life[0].originator_id)
            assert isinstance(token, ScimToken)
            assert (token.version, token.uses, token.revoked_at) == (3, 3, T2)

    def test_an_earlier_version_is_replayed(self, database: Database) -> None:
        life = stream()
        with ledger_of(database) as ledger:
            ledger.save(*life)
            token = ledger.replay(life[0].originator_id, version=2)
            assert isinstance(token, ScimToken)
            assert (token.version, token.revoked_at) == (2, None)

    def test_an_unknown_stream_is_not_found(self, database: Database) -> None:
        with ledger_of(database) as ledger, pytest.raises(NotFound):
            ledger.replay(uuid4())

    def test_a_session_that_ended_meanwhile_is_told_or_made_anew(self, database: Database) -> None:
        life = stream()
        id_ = life[0].originator_id
        with ledger_of(database) as ledger:
            ledger.save(*life)
            whole = ledger.replay(id_)
            end_sessions(database)
            for _ in range(15):  # as many as the pool may hold
                with suppress(StoreUnavailable):
                    assert ledger.replay(id_) == whole
            assert ledger.replay(id_) == whole

    @pytest.mark.long
    def test_a_database_that_is_away_is_told(self, database: Database) -> None:
        nowhere = make_conninfo(database.app, port="1")
        ledger = TokenLedger(nowhere, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)
        with pytest.raises(StoreUnavailable):
            ledger.replay(uuid4())
        asyncio.run(ledger.aclose())

    def test_part_of_a_stream_is_read_in_either_direction(self, database: Database) -> None:
        life = stream()
        id_ = life[0].originator_id
        with ledger_of(database) as ledger:
            ledger.save(*life)
            assert list(ledger.events.get(id_, gt=1)) == life[1:]
            assert list(ledger.events.get(id_, lte=2)) == life[:2]
            assert list(ledger.events.get(id_, desc=True, limit=1)) == life[2:]


class TestNotificationLog:
    def test_events_are_notified_in_commit_order(self, database: Database) -> None:
        lives = [stream() for _ in range(3)]
        with ledger_of(database) as ledger:
            for life in lives:
                ledger.save(life[0])
            for life in lives:
                ledger.save(life[1])
            notifications = ledger.notification_log.select(start=1, limit=10)
            assert [n.id for n in notifications] == [*range(1, 7)]
            assert [ledger.mapper.to_domain_event(n) for n in notifications] == [
                life[place] for place in (0, 1) for life in lives
            ]

    def test_a_selection_is_narrowed_by_place_number_and_topic(self, database: Database) -> None:
        with ledger_of(database) as ledger:
            for life in zip(stream(), stream(), strict=True):
                ledger.save(*life)
            select = ledger.notification_log.select
            assert [n.id for n in select(start=3, limit=2)] == [3, 4]
            assert [n.id for n in select(start=3, limit=2, inclusive_of_start=False)] == [4, 5]
            assert [n.id for n in select(start=1, stop=2, limit=9)] == [1, 2]
            assert [n.id for n in select(start=1, limit=9, topics=["scim_token.used.v1"])] == [3, 4]
            assert [n.id for n in select(start=None, limit=9)] == [*range(1, 7)]
            assert ledger.recorder.max_notification_id() == 6

    def test_an_empty_ledger_has_no_head(self, database: Database) -> None:
        with ledger_of(database) as ledger:
            assert ledger.recorder.max_notification_id() is None
            assert ledger.notification_log.select(start=1, limit=10) == []


class TestInsert:
    def test_saved_events_keep_states_heads_and_secrets(self, database: Database) -> None:
        one, other = stream(), stream()
        with ledger_of(database) as ledger:
            ledger.save(one[0], other[0])
            assert_consistent(database)
            recordings = ledger.save(other[1], one[1], one[2])
        assert [recording.notification.id for recording in recordings] == [3, 4, 5]
        states = assert_consistent(database)
        assert {id_: state.version for id_, state in states.items()} == {
            one[0].originator_id: 3,
            other[0].originator_id: 2,
        }

    @pytest.mark.parametrize("wrong", [0, 2], ids=["a version that is taken", "a version too far"])
    def test_a_version_that_is_not_the_next_is_refused_and_nothing_is_stored(
        self, database: Database, wrong: int
    ) -> None:
        life, another = stream(), stream()
        with ledger_of(database) as ledger:
            ledger.save(life[0])
            with pytest.raises(IntegrityError):
                ledger.save(another[0], life[wrong])
        assert assert_consistent(database).keys() == {life[0].originator_id}

    def test_an_append_waits_for_the_lock_and_gives_up(self, database: Database) -> None:
        """E9: what the library's recorder appends has its place in the one order, too."""
        with ledger_of(database) as ledger, psycopg.connect(database.app) as holder:
            holder.execute("SELECT ledger.lock_appends()")
            with pytest.raises(Exception, match="lock"):
                ledger.save(*stream())
            holder.rollback()
            assert assert_consistent(database) == {}
            ledger.save(*stream())
        assert len(assert_consistent(database)) == 1

    def test_an_event_from_before_the_last_one_is_refused(self, database: Database) -> None:
        one, other = stream(), stream()
        with ledger_of(database) as ledger:
            ledger.save(*one)
            with pytest.raises(IntegrityError):
                ledger.save(other[0])
            created, used, _ = other
            with pytest.raises(IntegrityError):
                ledger.save(
                    msgspec.structs.replace(created, at=T4),
                    msgspec.structs.replace(used, at=T4 - MILLISECOND),
                )
        assert_consistent(database)

    def test_what_was_saved_is_used_through_the_gate(self, database: Database) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                token, secret = await ledger.create_scim_token(
                    NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                )
                used = scim_token.Used(count=2, first_at=token.created_at, presentation=IDP)
                ledger.save(Recorded(token.id, 2, CLOCK_AND_IDS.clock(), uuid4(), used))
                await ledger.authenticate(secret, IDP)
                assert ledger.replay(token.id).uses == 3

        asyncio.run(main())
        assert_consistent(database)

    def test_the_librarys_own_insert_function_is_refused(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(OSError, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
            LedgerFactory(
                {"POSTGRES_ENABLE_DB_FUNCTIONS": "y", LedgerFactory.CONNINFO: database.app}
            )
        monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "y")
        with pytest.raises(OSError, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
            TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)


class TestLeastPrivilege:
    @pytest.mark.parametrize(
        "statement",
        by_turns(
            [
                "UPDATE ledger.events SET at = at",
                "DELETE FROM ledger.events",
                "TRUNCATE ledger.events",
                "DELETE FROM ledger.stream_heads",
                "DELETE FROM ledger.aggregates",
                "DELETE FROM ledger.secrets",
                "TRUNCATE ledger.stream_heads, ledger.aggregates, ledger.secrets",
                "DELETE FROM ledger.migrations",
                "INSERT INTO ledger.migrations (number) VALUES (9999)",
                "CREATE TABLE ledger.mine (x int)",
                "CREATE TABLE public.mine (x int)",
                "CREATE SCHEMA mine",
                "DROP TABLE ledger.events",
                "ALTER TABLE ledger.events ADD COLUMN x int",
                "CREATE INDEX ON ledger.events (at)",
                "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
                "CREATE OR REPLACE FUNCTION ledger.lock_appends() RETURNS void LANGUAGE sql AS ''",
                "LOCK TABLE ledger.events IN EXCLUSIVE MODE",
            ],
            one_of=3,
        ),
    )
    def test_the_app_role_cannot_rewrite_history(self, database: Database, statement: str) -> None:
        with ledger_of(database) as ledger:
            ledger.save(*stream())
        with (
            psycopg.connect(database.app) as app,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            app.execute(statement)
        assert_consistent(database)

    def test_the_app_role_builds_views(self, database: Database) -> None:
        with psycopg.connect(database.app) as app:
            app.execute("CREATE TABLE views.mine (x int)")
            app.execute("DROP TABLE views.mine")


class TestConcurrency:
    def test_appends_go_on_beside_maintenance_of_the_events(self, database: Database) -> None:
        with ledger_of(database) as ledger:
            life = stream()
            ledger.save(life[0])
            with psycopg.connect(database.owner) as maintenance:
                # what VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY hold while they work
                maintenance.execute("LOCK TABLE ledger.events IN SHARE UPDATE EXCLUSIVE MODE")
                ledger.save(*life[1:])
        assert len(assert_consistent(database)) == 1

    def test_maintenance_goes_on_beside_an_append(self, database: Database) -> None:
        with psycopg.connect(database.app) as append:
            append.execute("SELECT ledger.lock_appends()")
            append.execute(
                "INSERT INTO ledger.events (originator_id, originator_version, topic, at, "
                "command_id, state)"
                "VALUES (gen_random_uuid(), 1, 'test', now(), gen_random_uuid(), '')"
            )
            with psycopg.connect(database.owner, autocommit=True) as maintenance:
                maintenance.execute("SET statement_timeout = '5s'")
                maintenance.execute("VACUUM (ANALYZE) ledger.events")
            append.rollback()

    def test_appends_go_on_while_an_index_waits_to_be_built(self, database: Database) -> None:
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' "
            "AND wait_event_type = 'Lock'"
        )
        with (
            ledger_of(database) as ledger,
            psycopg.connect(database.owner) as writer,
            psycopg.connect(database.owner, autocommit=True) as observer,
            ThreadPoolExecutor() as threads,
        ):
            writer.execute("LOCK TABLE ledger.events IN ROW EXCLUSIVE MODE")
            index = threads.submit(self.build_an_index, database)
            while (
                observer.execute(f"{waiting} AND datname = current_database()").fetchone() is None
            ):
                assert not index.done(), "it was to wait"
            ledger.save(*stream())
            assert not index.done()
            writer.rollback()
            index.result(timeout=30)
        assert len(assert_consistent(database)) == 1

    @staticmethod
    def build_an_index(database: Database) -> None:
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute("CREATE INDEX CONCURRENTLY ON ledger.events (at)")

    def test_a_reader_that_follows_the_ledger_misses_nothing_and_sees_nothing_twice(
        self, database: Database
    ) -> None:
        written = threading.Event()

        async def write() -> None:
            async with open_ledger(database.app) as ledger:
                _, secret = await ledger.create_scim_token(
                    NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                )
                for round_ in range(15):
                    await asyncio.gather(
                        *(
                            ledger.authenticate(secret, Presentation(door=f"{n}"))
                            for n in range(round_ % 4)
                        ),
                        ledger.create_scim_token(
                            NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                        ),
                    )

        def follow() -> list[int]:
            seen: list[int] = []
            with psycopg.connect(database.app, autocommit=True) as reader:
                while True:
                    was_written = written.is_set()
                    entries = read_log.read(reader, after=seen[-1] if seen else 0, limit=7)
                    seen += [entry.position for entry in entries]
                    if was_written and not entries:
                        return seen

        with ThreadPoolExecutor() as threads:
            reader = threads.submit(follow)
            writers = [threads.submit(asyncio.run, write()) for _ in range(4)]
            try:
                for writer in writers:
                    writer.result(timeout=60)
            finally:
                written.set()
            seen = reader.result(timeout=60)
        with psycopg.connect(database.app) as connection:
            committed = [
                id_
                for (id_,) in connection.execute(
                    "SELECT notification_id FROM ledger.events ORDER BY 1"
                )
            ]
        assert len(committed) > 4 * 15
        assert seen == committed
        assert all(one < other for one, other in pairwise(seen))

    def test_the_check_above_notices_appends_that_take_no_lock(self, database: Database) -> None:
        """Without the lock a later id is committed first,
        and a reader passes the earlier one for good.
        """
        insert = (
            "INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, "
            "state) "
            "VALUES (gen_random_uuid(), 1, 'test', now(), gen_random_uuid(), '')"
        )
        with (
            psycopg.connect(database.app) as slow,
            psycopg.connect(database.app) as fast,
            psycopg.connect(database.app, autocommit=True) as reader,
        ):
            slow.execute(insert)
            fast.execute(insert)
            fast.commit()
            seen = [entry.position for entry in read_log.read(reader, after=0, limit=7)]
            slow.commit()
            seen += [entry.position for entry in read_log.read(reader, after=seen[-1], limit=7)]
            committed = reader.execute(
                "SELECT notification_id FROM ledger.events ORDER BY 1"
            ).fetchall()
        assert (seen, committed) == ([2], [(1,), (2,)])

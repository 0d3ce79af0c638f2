"""A rebuild: the same rows from the first event on, beside the live ones,
then all at once or not at all.
"""

import asyncio
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from multiprocessing.connection import Connection as Pipe
from operator import itemgetter
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from domain.scim_token import Created, Presentation, Rotated
from domain.secret import Digest
from projections.audit_trail.queries import AuditFilter, AuditQueries, Span
from projections.follow import locks, positions
from projections.follow import read_log as log
from projections.follow.apply import copy, move
from projections.follow.positions import create_version, live_position
from projections.follow.runner import Runner
from projections.projection import LogEntry, Projection, UnappliableEvent
from projections.rebuild import bulk
from projections.rebuild import run as rebuilding
from projections.rebuild.compare import Difference, Unreadable
from projections.rebuild.requests import latest, request, underway
from projections.rebuild.run import (
    Interrupted,
    Progress,
    RebuildUnderway,
    ViewsDiffer,
    drop_old,
    rebuild,
    verify,
)
from projections.rebuild.worker import Rebuilder
from projections.registry import PROJECTIONS
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.queries import TokenFilter, TokenQueries
from projections.usage.queries import UsageQueries
from tests.conftest import Database, catch_up, now, open_ledger
from tests.domain.scenario import (
    T0,
    T1,
    T2,
    T3,
    T4,
    Given,
    created,
    refused,
    revoked,
    rotated,
    used,
)
from tests.projections.follow.test_runner import running
from tests.projections.given_events import record, select, until
from tests.projections.history import Fact, content, given

VIEW = scim_tokens.PROJECTION
NOT_READ_WHOLE = [projection for projection in PROJECTIONS if not projection.needs_stream_team]
HOUR = timedelta(hours=1)
LIVES: tuple[tuple[Given, ...], ...] = (
    (created(T0), used(T1), used(T2), used(T3)),
    (created(T0), rotated(T1), used(T2), revoked(T3), refused(T4)),
    (created(T0, expires_at=T4), used(T0), used(T0), rotated(T1), used(T1)),
    (created(T0, name="プロビジョニング"),),
)


@contextmanager
def app(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.app, autocommit=True) as connection:
        yield connection


def history(database: Database, *, rounds: int = 3) -> None:
    """Tokens with all kinds of lives, each beginning while others go on,
    and every view caught up.
    """
    facts: list[Fact] = []
    for number in range(rounds * len(LIVES)):
        token_id = uuid4()
        for event, at in LIVES[number % len(LIVES)]:
            if isinstance(event, Created | Rotated):
                own = Digest(sha256(token_id.bytes + event.topic.encode()).digest(), 1)
                event = msgspec.structs.replace(event, digest=own)  # noqa: PLW2901
            facts.append((token_id, event, at + number * timedelta(minutes=20)))
    given(database, *sorted(facts, key=itemgetter(2)))


def tables(database: Database, name: str = "scim_tokens") -> list[str]:
    return [
        table
        for (table,) in select(
            database, f"SELECT relname FROM pg_class WHERE relname ~ '^{name}_v[0-9]+$' ORDER BY 1"
        )
    ]


def indexes(database: Database, version: int) -> list[str]:
    found = select(
        database,
        "SELECT replace(indexdef, table_name, 'it') FROM (SELECT indexdef, tablename AS table_name "
        f"FROM pg_indexes WHERE tablename = 'scim_tokens_v{version}') i",
    )
    return sorted(definition.partition(" ON ")[2] for (definition,) in found)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and writes so small that a short history takes many,
    and rows written are found again.
    """
    for name, value in (("READ", 3), ("ROWS", 2)):
        monkeypatch.setattr(bulk, name, value)


class TestTheSameRows:
    @pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
    def test_a_rebuilt_view_holds_the_same_bytes(
        self, database: Database, projection: Projection
    ) -> None:
        history(database)
        before = content(database, projection)
        assert before
        with app(database) as connection:
            assert rebuild(connection, projection) == 2
        assert content(database, projection) == before

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
    def test_also_when_rows_are_written_and_found_again(
        self, database: Database, projection: Projection
    ) -> None:
        self.test_a_rebuilt_view_holds_the_same_bytes(database, projection)

    def test_it_has_the_same_indexes(self, database: Database) -> None:
        history(database)
        with app(database) as connection:
            rebuild(connection, VIEW)
        assert indexes(database, 2) == indexes(database, 1)
        assert len(indexes(database, 2)) == 1 + len(VIEW.indexes)

    def test_an_empty_ledger_has_an_empty_view(self, database: Database) -> None:
        with app(database) as connection:
            assert rebuild(connection, VIEW) == 2
        assert content(database, VIEW) == []

    @pytest.mark.parametrize("projection", NOT_READ_WHOLE, ids=lambda projection: projection.name)
    def test_what_the_database_leaves_out_changes_no_row(
        self, database: Database, projection: Projection
    ) -> None:
        """`instant_only` and `last_only` are promises of the fold, wherever the log is cut."""
        history(database, rounds=1)
        with app(database) as connection:
            everything = log.read(connection, after=0, limit=1000)
            whole: dict[Any, Any] = {}
            projection.fold(
                whole, [e for e in everything if e.topic in projection.topics], REGISTRY
            )
            end = everything[-1].position
            for cut in range(1, len(everything)):
                rows: dict[Any, Any] = {}
                for after, last in ((0, cut), (cut, end)):
                    entries = log.read_for(
                        connection,
                        projection,
                        after=after,
                        until=last,
                        end=end,
                        known=REGISTRY.topics,
                    )
                    projection.fold(rows, entries, REGISTRY)
                assert rows == whole


class TestBesideTheLiveOne:
    def test_nobody_notices_a_rebuild_of_all_views_under_load(self, database: Database) -> None:
        """Writers read their own writes, in each view,
        while all of them are rebuilt again and again.
        """
        history(database)
        versions: list[int] = []

        def rebuild_often() -> None:
            with app(database) as connection:
                for _ in range(2):
                    versions.extend(rebuild(connection, projection) for projection in PROJECTIONS)
                    drop_old(connection, PROJECTIONS)

        async def write_and_read() -> int:
            done = 0
            async with open_ledger(database.app) as ledger:
                reader = OwnWrites(ledger)
                while rebuilder.is_alive():
                    await reader.walk()
                    done += 1
            return done

        rebuilder = threading.Thread(target=rebuild_often)
        with running(database):
            rebuilder.start()
            written = asyncio.run(write_and_read())
            rebuilder.join()
        catch_up(database)
        assert versions == [2] * len(PROJECTIONS) + [3] * len(PROJECTIONS)
        assert written > 0
        assert len(content(database, VIEW)) == 3 * len(LIVES) + written
        with app(database) as connection:
            assert [verify(connection, projection) for projection in PROJECTIONS] == [None] * 4

    def test_what_somebody_finished_meanwhile_is_not_done_again(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history(database)
        with app(database) as connection:
            rebuild(connection, VIEW)
            # as it was just now
            monkeypatch.setattr("projections.rebuild.worker.underway", lambda *_: [VIEW])
            assert not Rebuilder(database.app, PROJECTIONS).step(connection)
            assert tables(database) == ["scim_tokens_v1", "scim_tokens_v2"]

    def test_the_old_table_is_kept_until_it_is_dropped(self, database: Database) -> None:
        history(database)
        with app(database) as connection:
            rebuild(connection, VIEW)
            assert tables(database) == ["scim_tokens_v1", "scim_tokens_v2"]
            assert drop_old(connection, PROJECTIONS) == ["views.scim_tokens_v1"]
            assert tables(database) == ["scim_tokens_v2"]
            assert drop_old(connection, PROJECTIONS) == []

    @pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
    def test_the_comparison_is_at_one_position_however_far_the_live_one_gets(
        self, database: Database, projection: Projection
    ) -> None:
        """Events arrive, and are applied to the live view, at every step of the rebuild."""
        assert difference_after_arrivals(database, projection) is None

    def test_planted_a_switch_that_forgets_what_arrived_is_noticed(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rebuilding._Rebuilding, "_switch", switch_without_the_tail)
        assert difference_after_arrivals(database, VIEW) is not None


class OwnWrites:
    """A client that creates and uses a token, and expects to read of it in every view."""

    def __init__(self, ledger: TokenLedger) -> None:
        self._ledger = ledger
        self._tokens = TokenQueries(ledger.reads)
        self._audit = AuditQueries(ledger.reads)
        self._usage = UsageQueries(ledger.reads)

    async def walk(self) -> None:
        """One token's beginning. Raises on an error, and on an answer that is not right."""
        ledger, team = self._ledger, uuid4()
        token, secret = await ledger.create_scim_token(
            NewScimToken(team, "Okta"), by=Operator(uuid4())
        )
        before = now()
        for source in ("192.0.2.1", "192.0.2.2"):
            await ledger.authenticate(secret, Presentation(door="scim", source=source))
        head = await _head(ledger.reads)

        for narrow in (TokenFilter((team,)), TokenFilter((team,), new_source_since=before)):
            page = await self._tokens.page(narrow, after=None, limit=2, at=T0, head=head)
            assert len(page.documents) == 1
            assert str(token.id) in page.documents[0]
            assert '"last_used_at":null' not in page.documents[0]
        trail = await self._audit.page(AuditFilter(teams=(team,)), Span(), limit=9, head=head)
        assert [event.kind.partition(".")[2] for event in trail.events] == [
            "used",
            "used",
            "created",
        ]
        steps = await self._usage.steps(
            token.id, from_at=before - HOUR, to_at=now() + HOUR, step=HOUR, head=head
        )
        assert sum(step.uses for step in steps) == 2


def difference_after_arrivals(
    database: Database, projection: Projection
) -> Difference | Unreadable | None:
    """Whether a view holds, after its rebuild, all that arrived meanwhile."""
    history(database)
    states: set[str] = set()

    def arrive(at: Progress) -> None:
        if at.state not in states:
            states.add(at.state)
            record(database, created(T4 + timedelta(days=9)), used(T4 + timedelta(days=9)))
            catch_up(database)

    with app(database) as connection:
        rebuild(connection, projection, report=arrive)
        catch_up(database)
        assert states >= {"building", "indexing", "comparing", "switching"}
        return verify(connection, projection)


def switch_without_the_tail(self: rebuilding._Rebuilding) -> bool:
    """The planted bug: the position moves to that of the live version, and the rows do not."""
    name, shape = self._projection.name, self._projection.shape
    assert self._row is not None
    with self._connection.transaction():
        reached = self._lock_versions()
        at, target = reached[self._version], max(reached.values())
        assert at < target
        move(self._connection, self._projection, self._version, target, after=at, role="building")
        self._connection.execute(positions.RETIRE, [name, shape])
        self._connection.execute(positions.GO_LIVE, [name, self._version])
        self._row.finish()
    return True


class TestRefusals:
    def test_two_at_once_are_refused(self, database: Database) -> None:
        history(database)
        refusals = 0

        def second(_: Progress) -> None:
            nonlocal refusals
            with app(database) as other, pytest.raises(RebuildUnderway):
                rebuild(other, VIEW)
            refusals += 1

        with app(database) as connection:
            rebuild(connection, VIEW, report=second)
            assert refusals >= 4
            rebuild(connection, VIEW)

    def test_another_view_is_another_matter(self, database: Database) -> None:
        history(database)
        versions = []

        def other_view(at: Progress) -> None:
            if at.state == "comparing":
                with app(database) as other:
                    versions.append(rebuild(other, PROJECTIONS[1]))

        with app(database) as connection:
            rebuild(connection, VIEW, report=other_view)
        assert versions == [2]

    def test_a_view_that_would_differ_is_not_switched_and_the_row_is_named(
        self, database: Database
    ) -> None:
        history(database)
        (damaged, *_), *_ = select(
            database, "SELECT id FROM views.scim_tokens_v1 ORDER BY id OFFSET 3"
        )
        spoil(database, f"UPDATE views.scim_tokens_v1 SET name = 'hunter2' WHERE id = '{damaged}'")
        with app(database) as connection:
            with pytest.raises(ViewsDiffer) as caught:
                rebuild(connection, VIEW)
            assert str(caught.value) == (
                f"scim_tokens: the row {damaged} differs in name; the view was not switched"
            )
            assert tables(database) == ["scim_tokens_v1"]
            told = latest(connection, VIEW)
            assert told is not None
            assert (told.state, told.error) == ("failed", str(caught.value))
            assert rebuild(connection, VIEW, accepts_difference=True) == 2
            assert verify(connection, VIEW) is None
        assert select(database, "SELECT 1 FROM views.scim_tokens_v2 WHERE name = 'hunter2'") == []

    def test_a_fold_that_was_changed_without_its_shape_is_noticed(self, database: Database) -> None:
        def rotated_and_not_updated(
            row: scim_tokens.TokenRow, entry: LogEntry, _: None
        ) -> scim_tokens.TokenRow:
            return msgspec.structs.replace(row, rotated_at=entry.at)

        history(database)
        with (
            app(database) as connection,
            pytest.raises(ViewsDiffer, match="differs in updated_at, tail"),
        ):
            rebuild(
                connection, replace(VIEW, evolve={**VIEW.evolve, Rotated: rotated_and_not_updated})
            )

    def test_an_event_that_cannot_be_applied_is_named(self, database: Database) -> None:
        history(database)
        (poison,), *_ = select(
            database,
            f"SELECT max(notification_id) FROM ledger.events WHERE topic = '{Created.topic}'",
        )
        spoil(
            database,
            f"UPDATE ledger.events SET state = '{{\"hunter2\"' WHERE notification_id = {poison}",
        )
        with app(database) as connection:
            with pytest.raises(UnappliableEvent) as caught:
                rebuild(connection, VIEW)
            assert caught.value.position == poison
            told = latest(connection, VIEW)
        assert told is not None
        assert told.error == f"event {poison}: UnreadableEvent on a scim_token.created.v1"
        assert tables(database) == ["scim_tokens_v1"]


def spoil(database: Database, statement: str) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        assert owner.execute(statement.encode()).rowcount == 1


class TestInterrupted:
    @pytest.mark.parametrize("state", ["building", "indexing", "comparing", "switching"])
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

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
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


class TestAtomic:
    """Rows and position are written in one transaction; and the check that says so notices two."""

    def test_a_write_that_fails_half_way_leaves_nothing(self, database: Database) -> None:
        assert self.is_atomic(database, bulk._Filling.write)

    def test_a_position_in_a_second_transaction_is_noticed(self, database: Database) -> None:
        def write(filling: bulk._Filling, position: int) -> None:
            copy(filling._connection, VIEW, 2, filling.rows.values())
            move(filling._connection, VIEW, 2, position, after=0, role="building")

        assert not self.is_atomic(database, write)

    @staticmethod
    def is_atomic(database: Database, write: Callable[[bulk._Filling, int], None]) -> bool:
        history(database)
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute(
                "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql "
                "AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'crash_shutdown'; END $$"
            )
            owner.execute(
                "CREATE TRIGGER fail BEFORE UPDATE ON ledger.projection_positions "
                "FOR EACH ROW WHEN (new.version = 2) EXECUTE FUNCTION public.fail()"
            )
        with app(database) as connection:
            create_version(connection, VIEW, 2, role="building")
            filling = bulk._Filling(connection, VIEW, 2)
            entries = log.read(connection, after=0, limit=1000)
            entries = [entry for entry in entries if entry.topic in VIEW.topics]
            VIEW.fold(filling.rows_for(entries), entries, REGISTRY)
            with pytest.raises(psycopg.OperationalError):
                write(filling, entries[-1].position)
        return select(database, "TABLE views.scim_tokens_v2") == []


async def _head(reads: Any) -> int:
    async with reads.connection() as connection:
        row = await (
            await connection.execute("SELECT max(notification_id) FROM ledger.events")
        ).fetchone()
        assert row is not None
        head: int = row[0]
        return head


class TestPreparing:
    def test_a_view_of_a_short_ledger_is_there_at_once(self, database: Database) -> None:
        history(database)
        grown = replace(VIEW, shape=VIEW.shape + 1)
        with app(database) as connection:
            rebuilding.prepare(connection, grown)
            at = live_position(connection, grown)
            assert at is not None
            assert (at.version, at.position) == (2, 0)
            assert Runner(database.app, [grown]).catch_up(connection) > 0
            assert live_position(connection, VIEW) is not None

    def test_that_of_a_long_one_is_asked_for(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history(database)
        monkeypatch.setattr(rebuilding, "BULK_FROM", 10)
        grown = replace(VIEW, shape=VIEW.shape + 1)
        with app(database) as connection:
            rebuilding.prepare(connection, grown)
            assert live_position(connection, grown) is None
            assert underway(connection, [grown]) == [grown]
            assert underway(connection, PROJECTIONS) == []

"""A rebuild makes the same rows from the first event on, beside the live ones."""

import asyncio
import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from projections.follow import positions, read_log
from projections.projection import Projection
from projections.rebuild import bulk
from projections.rebuild.compare import Difference, Unreadable
from projections.rebuild.run import check_view, rebuild
from projections.rebuild.shapes import drop_old
from projections.rebuild.steps import Progress, Rebuilding
from projections.rebuild.worker import Rebuilder
from projections.registry import PROJECTIONS
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from projections.usage.queries import UsageQueries
from tests.conftest import Database, catch_up, now, open_ledger
from tests.domain.scenario import (
    T0,
    T4,
    created,
    used,
)
from tests.projections.follow.test_runner import running
from tests.projections.given_events import record
from tests.projections.history import content
from tests.projections.rebuild.lives import LIVES, VIEW, app, history, indexes, tables
from tests.turns import by_turns

NOT_READ_WHOLE = [projection for projection in PROJECTIONS if not projection.needs_stream_team]
HOUR = timedelta(hours=1)


class TestTheSameRows:
    @pytest.mark.parametrize(
        "projection", by_turns(PROJECTIONS, one_of=2), ids=lambda projection: projection.name
    )
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
    @pytest.mark.parametrize(
        "projection", by_turns(PROJECTIONS, one_of=4), ids=lambda projection: projection.name
    )
    def test_also_when_rows_are_written_and_found_again(
        self, database: Database, projection: Projection
    ) -> None:
        self.test_a_rebuilt_view_holds_the_same_bytes(database, projection)

    def test_also_when_a_row_that_was_found_again_changes_time_and_again(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is in memory and in the table, and the table has the older one."""
        monkeypatch.setattr(bulk, "READ", 1)
        monkeypatch.setattr(bulk, "ROWS", 5)
        self.test_a_rebuilt_view_holds_the_same_bytes(database, VIEW)

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
            everything = read_log.read(connection, after=0, limit=1000)
            whole: dict[Any, Any] = {}
            projection.fold(
                whole, [e for e in everything if e.topic in projection.topics], REGISTRY
            )
            end = everything[-1].position
            for cut in range(1, len(everything)):
                rows: dict[Any, Any] = {}
                for after, last in ((0, cut), (cut, end)):
                    entries = read_log.read_for(
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
    @pytest.mark.long
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
            assert [check_view(connection, projection) for projection in PROJECTIONS] == [None] * 4

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

    @pytest.mark.parametrize(
        "projection", by_turns(PROJECTIONS, one_of=4), ids=lambda projection: projection.name
    )
    def test_the_comparison_is_at_one_position_however_far_the_live_one_gets(
        self, database: Database, projection: Projection
    ) -> None:
        """Events arrive, and are applied to the live view, at every step of the rebuild."""
        assert difference_after_arrivals(database, projection) is None

    @pytest.mark.long
    def test_planted_a_switch_that_forgets_what_arrived_is_noticed(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Rebuilding, "_switch", switch_without_the_tail)
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
            page = await self._tokens.page(narrow, after=None, limit=2, at=T0, ledger_head=head)
            (found,) = msgspec.json.decode(page.documents)
            assert found["id"] == str(token.id)
            assert found["last_used_at"] is not None
        trail = await self._audit.page(
            AuditFilter(teams=(team,)), Span(), limit=9, ledger_head=head
        )
        assert [event.kind.partition(".")[2] for event in trail.events] == [
            "used",
            "used",
            "created",
        ]
        steps = await self._usage.steps(
            token.id, from_at=before - HOUR, to_at=now() + HOUR, step=HOUR, ledger_head=head
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
        return check_view(connection, projection)


def switch_without_the_tail(self: Rebuilding) -> bool:
    """The planted bug: the position moves to that of the live version, and the rows do not."""
    name, shape = self._projection.name, self._projection.shape
    assert self._row is not None
    with self._connection.transaction():
        reached = self._lock_versions()
        at, target = reached[self._version.number], max(reached.values())
        assert at < target
        self._version.move(target, after=at)
        self._connection.execute(positions.RETIRE, [name, shape])
        self._connection.execute(positions.GO_LIVE, [name, self._version.number])
        self._row.finish()
    return True


async def _head(reads: Any) -> int:
    async with reads.connection() as connection:
        row = await (
            await connection.execute("SELECT max(notification_id) FROM ledger.events")
        ).fetchone()
        assert row is not None
        head: int = row[0]
        return head

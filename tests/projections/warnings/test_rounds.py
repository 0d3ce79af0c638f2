"""Whoever watches sees since when a question was not answered whole, and of the leader alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
import pytest

from domain.errors import NotFound
from domain.instruments import Gauge
from domain.scim_token.warnings import UNUSED_AFTER
from projections.warnings import due as due_warnings
from projections.warnings import rounds
from projections.warnings.teller import Teller
from tests.conftest import Database, Run, catch_up
from tests.domain.eventstore.hand_clock import HandClock
from tests.domain.scenario import T0
from tests.projections.warnings.weeks import ADA, HOUR, Weeks, weeks

QUESTIONS: Final = ("ends", "rotation_ends", "sources", "silences", "rotations")


@contextmanager
def without_state(database: Database, token_id: UUID) -> Iterator[None]:
    """A token that nothing can be decided about, for the block."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        row = owner.execute(
            "DELETE FROM ledger.aggregates WHERE originator_id = %s RETURNING *", [token_id]
        ).fetchone()
        yield
        owner.execute("INSERT INTO ledger.aggregates VALUES (%s, %s, %s)", row)


class Watched:
    """The memory that outlives a process, and what it says."""

    def __init__(self) -> None:
        cells = [0] * len(QUESTIONS)
        self.since: Mapping[str, Gauge] = {
            question: Gauge(cells, place) for place, question in enumerate(QUESTIONS)
        }

    def late(self, w: Weeks) -> Mapping[str, timedelta]:
        """How long each question has waited that another round would have answered."""
        at = w.clock.now.timestamp()
        ages = {
            question: timedelta(seconds=at - gauge.value) for question, gauge in self.since.items()
        }
        return {question: age for question, age in ages.items() if age}

    def teller(self, w: Weeks) -> Teller:
        """A process that leads from now on."""
        made = Teller(w.database.app, w.clock.clock_and_ids, since=self.since)
        made.rounds.lead()
        return made


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_question_that_is_answered_is_not_late(
    database: Database, run: Run, watched: Watched
) -> None:
    async def main() -> None:
        async with weeks(database) as w, watched.teller(w) as teller:
            assert teller.due.questions.keys() == watched.since.keys()
            await w.create()
            for _ in range(3):
                w.clock.advance(HOUR)
                await w.rounds(teller)
                assert watched.late(w) == {}
            w.clock.advance(HOUR)
            assert watched.late(w) == dict.fromkeys(QUESTIONS, HOUR)

    run(main())


def test_a_walk_is_answered_when_it_has_come_round(
    database: Database, run: Run, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_warnings, "LIMIT", 3)
    monkeypatch.setattr(due_warnings, "ROTATIONS", 1)

    async def main() -> None:
        async with weeks(database) as w, watched.teller(w) as teller:
            tokens = [await w.create() for _ in range(7)]
            for token_id, _ in tokens[:2]:
                await w.ledger.rotate_scim_token(token_id, overlap=30 * 24 * HOUR, by=ADA)
            for round_ in (1, 2, 3):
                w.clock.advance(HOUR)
                await w.rounds(teller)
                late = {"silences": round_ * HOUR, "rotations": round_ * HOUR}
                assert watched.late(w) == ({} if round_ == 3 else late)

    run(main())


def test_a_walk_of_which_a_part_cannot_be_told_is_late_until_it_can(
    database: Database, run: Run, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else shows it: what a walk finds is in no index."""
    monkeypatch.setattr(due_warnings, "LIMIT", 1)

    async def main() -> None:
        async with weeks(database) as w, watched.teller(w) as teller:
            older, _ = await w.create()
            w.clock.advance(HOUR)
            lost, _ = await w.create()
            w.clock.advance(UNUSED_AFTER)
            with without_state(database, lost):
                for round_ in range(6):
                    w.clock.advance(HOUR)
                    with pytest.raises(NotFound) if round_ in {0, 3} else nullcontext():
                        await w.rounds(teller)
                assert w.events(lost) == []
                assert len(w.events(older)) == 1
                assert watched.late(w) == {"silences": UNUSED_AFTER + 7 * HOUR}
            await w.rounds(teller, 3)
            assert len(w.events(lost)) == 1
            assert watched.late(w) == {}

    run(main())


def test_a_question_that_fails_each_time_is_late_and_the_others_are_not(
    database: Database, run: Run, watched: Watched
) -> None:
    async def main() -> None:
        async with weeks(database) as w, watched.teller(w) as teller:
            catch_up(database)
            with psycopg.connect(database.owner) as owner:
                owner.execute(
                    "UPDATE ledger.projection_positions SET stopped_at = 1, error = 'planted' "
                    "WHERE name = 'token_sources'"
                )
            await w.create()
            w.clock.advance(HOUR)
            catch_up(database)
            with pytest.raises(Exception, match="token_sources"):
                await teller.round()
            assert watched.late(w) == {"sources": HOUR}

    run(main())


def test_a_process_in_the_place_of_one_that_died_goes_on_waiting(
    database: Database, run: Run, watched: Watched
) -> None:
    """One that always dies on its way is seen."""

    async def main() -> None:
        async with weeks(database) as w:
            for _ in range(3):
                async with watched.teller(w) as teller:
                    teller.rounds.follow()  # for a moment: it does not lead at once
                    w.clock.advance(HOUR)
            assert watched.late(w) == dict.fromkeys(QUESTIONS, 3 * HOUR)

    run(main())


def test_a_process_that_follows_another_is_late_with_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FOLLOWS_AFTER_S", -1.0)
    clock = HandClock(T0)
    followed = rounds.Rounds(watched.since, clock)
    followed.lead()
    assert {gauge.value for gauge in watched.since.values()} == {int(T0.timestamp())}
    followed.follow()
    assert {gauge.value for gauge in watched.since.values()} == {0}
    clock.advance(HOUR)
    followed.lead()
    assert {gauge.value for gauge in watched.since.values()} == {int(clock.now.timestamp())}

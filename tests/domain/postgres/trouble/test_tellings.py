"""What is told of a database in trouble, however it comes and goes: enough, and nothing twice."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from domain.postgres.trouble import late_commit, lost_session
from domain.postgres.trouble.late_commit import LATE_COMMIT, LateCommit
from domain.postgres.trouble.lost_session import AnswerLost, LostSession
from domain.postgres.trouble.told_once import ToldOnce
from domain.postgres.trouble.unusable_reasons import reason

REFUSED: Final = psycopg.OperationalError("connection refused")
FULL: Final = psycopg.OperationalError("FATAL: sorry, too many clients already")
ANSWERS: Final = st.lists(st.sampled_from([True, False, None]), max_size=6)


class Clock:
    """Seconds that pass when somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """As of `time`."""
        return self.now


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    with pytest.MonkeyPatch.context() as patching:
        passing = Clock()
        for module in (late_commit, lost_session):
            patching.setattr(module, "time", passing)
        yield passing


@given(came=st.lists(st.sampled_from([REFUSED, FULL, None]), max_size=8))
@example(came=[REFUSED, FULL, REFUSED, None, None, REFUSED])
def test_a_loss_is_told_once_each_reason_and_its_end_once(
    came: list[psycopg.Error | None],
) -> None:
    """None of them: it works."""
    teller = ToldOnce("lost", "over")
    with capture_logs() as logged:
        for error in came:
            if error is None:
                teller.works()
            else:
                teller.lost(error)
    told = [(each["event"], each.get("reason")) for each in logged]
    states = [("over", None) if error is None else ("lost", reason(error)) for error in came]
    changes = [
        now for before, now in zip([("over", None), *states], states, strict=False) if now != before
    ]
    assert told == changes


@given(answers=ANSWERS)
def test_a_commit_that_waits_for_a_standby_is_told_once_and_asked_after_ever_more_seldom(
    clock: Clock, answers: list[bool | None]
) -> None:
    asked_at, left = [clock.now], iter(answers)

    def is_waiting() -> bool | None:
        asked_at.append(clock.now)
        return next(left, True)

    with capture_logs() as logged:
        looker = LateCommit(is_waiting)
        for _ in range(1200):
            clock.now += 0.5
            looker.look()
    assert [each["event"] for each in logged] == [LATE_COMMIT]
    until_true = answers.index(True) if True in answers else len(answers)
    pauses = [later - before for before, later in pairwise(asked_at)]
    assert pauses == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0][: until_true + 1]


@given(came=st.lists(st.sampled_from(["at work", "idle", "not told", "heard"]), max_size=10))
@example(came=["idle", "idle"])
@example(came=["idle", "heard", "idle", "at work", "idle", "not told", "idle"])
def test_a_session_is_lost_when_it_is_found_idle_twice_and_nothing_came_between(
    clock: Clock, came: list[str]
) -> None:
    """What it has said may be under way to us; a server that cannot be asked says nothing."""
    said = {"at work": True, "idle": False, "not told": None}
    asked: list[str] = []

    def is_at_work() -> bool | None:
        asked.append(answer)
        return said[answer]

    looker, pause_s = LostSession(is_at_work), 5.0
    for before, answer in pairwise(["", *came]):
        if answer == "heard":
            looker.heard()
            continue
        clock.now += pause_s - 0.25
        known = len(asked)
        looker.look()
        assert len(asked) == known, "not before its time"
        clock.now += 0.25
        if before == answer == "idle":
            with pytest.raises(AnswerLost):
                looker.look()
            return
        looker.look()
        assert len(asked) == known + 1
        pause_s = 5.0 if answer == "idle" else 10.0

"""The checker itself: histories decided by hand, and every small one against trying all orders."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability.checker import Operation, is_linearizable
from tests.linearizability.token_model import (
    ABSENT,
    AUTHENTICATE,
    BURN,
    CANCEL,
    COMPLETE,
    CREATE,
    END,
    FINISH,
    KINDS,
    LIMIT,
    LIST,
    RENAME,
    RESUME,
    REVOKE,
    ROTATE,
    ROTATE_AT_ONCE,
    SUSPEND,
    UNLIMIT,
    Token,
    answers,
    step,
)

NUMBERED = {ROTATE, ROTATE_AT_ONCE, LIMIT, END}
"""What is about something new, or about its number."""
ASKED = [(kind, each) for kind in KINDS for each in ((1, 2) if kind in NUMBERED else (0, 1, 2))]


def create(invoked_at: float, answered_at: float, answer: str = "created") -> Operation:
    return Operation(CREATE, answer, invoked_at, answered_at)


def yes(invoked_at: float, answered_at: float) -> Operation:
    return Operation(AUTHENTICATE, "yes", invoked_at, answered_at)


def no(invoked_at: float, answered_at: float, answer: str = "no") -> Operation:
    return Operation(AUTHENTICATE, answer, invoked_at, answered_at)


def revoke(invoked_at: float, answered_at: float) -> Operation:
    return Operation(REVOKE, "done", invoked_at, answered_at)


def burn(invoked_at: float, answered_at: float) -> Operation:
    return Operation(BURN, "done", invoked_at, answered_at)


def rotate(invoked_at: float, answered_at: float, answer: str = "rotated") -> Operation:
    return Operation(ROTATE, answer, invoked_at, answered_at, subject=1)


def done(kind: str, invoked_at: float, answered_at: float, subject: int = 0) -> Operation:
    return Operation(kind, "done", invoked_at, answered_at, subject)


def finish(invoked_at: float, answered_at: float, answer: str = "finished") -> Operation:
    return Operation(FINISH, answer, invoked_at, answered_at, subject=1)


def newer(operation: Operation) -> Operation:
    """The same, by the secret that the rotation made."""
    return replace(operation, subject=1)


def end(at: float) -> Operation:
    """The end number 1 comes."""
    return Operation(END, "came", at, at, subject=1)


def lost(kind: str, invoked_at: float, subject: int = 0) -> Operation:
    return Operation(kind, None, invoked_at, subject=subject)


LINEARIZABLE = {
    "nothing": [],
    "one after the other": [create(0, 1), yes(2, 3), revoke(4, 5), no(6, 7)],
    "a yes that began before the revoke was answered": [create(0, 1), revoke(2, 6), yes(5, 9)],
    "a no that began before the revoke was answered": [create(0, 1), revoke(2, 6), no(3, 4)],
    "yes, then no, both within the revoke": [create(0, 1), revoke(2, 9), yes(3, 4), no(5, 6)],
    "a no told before a yes that began earlier": [create(0, 1), revoke(2, 9), yes(3, 8), no(4, 5)],
    "revoked twice": [create(0, 1), revoke(2, 3), revoke(4, 5), no(6, 7)],
    "two create, the later one gets it": [create(0, 5), create(1, 3, "exists"), yes(6, 7)],
    "burned in vain, then created": [create(0, 5), burn(0, 5), yes(6, 7)],
    "created, then burned": [create(0, 5), burn(0, 5), no(6, 7)],
    "no at the very instant of the revoke's answer": [create(0, 1), revoke(2, 3), yes(3, 4)],
    "the lost revoke took effect": [create(0, 1), lost(REVOKE, 2), no(3, 4)],
    "the lost revoke took effect late": [create(0, 1), lost(BURN, 2), yes(5, 6), no(7, 8)],
    "the lost revoke never took effect": [create(0, 1), lost(REVOKE, 2), yes(8, 9)],
    "the lost create took effect": [lost(CREATE, 0), create(1, 2, "exists"), yes(3, 4)],
    "the lost create never took effect": [lost(CREATE, 0), create(1, 2), yes(3, 4)],
    "a lost use has no effect": [create(0, 1), lost(AUTHENTICATE, 2), yes(3, 4)],
    "only lost": [lost(REVOKE, 0), lost(CREATE, 1)],
    "unknown before it exists": [no(0, 1, "unknown"), create(2, 3), yes(4, 5)],
    "both are good while it is rotated": [create(0, 1), rotate(2, 3), yes(4, 5), newer(yes(4, 5))],
    "one of two that complete and cancel wins": [
        *(create(0, 1), rotate(2, 3), done(CANCEL, 4, 9)),
        *(Operation(COMPLETE, "not underway", 4, 9), yes(10, 11), newer(no(10, 11))),
    ],
    "a lost cancel took effect": [create(0, 1), rotate(2, 3), lost(CANCEL, 4), newer(no(5, 6))],
    "it ends in time": [create(0, 1), done(LIMIT, 2, 3, 1), yes(4, 5), end(6), no(7, 8, "expired")],
    "its end was taken away": [
        *(create(0, 1), done(LIMIT, 2, 3, 1), done(UNLIMIT, 4, 5), end(6), yes(7, 8)),
    ],
}
NOT_LINEARIZABLE = {
    "yes after the revoke was answered": [create(0, 1), revoke(2, 3), yes(4, 5)],
    "yes after another was told no": [create(0, 1), revoke(2, 9), no(3, 4), yes(5, 6)],
    "no before anybody revoked": [create(0, 1), no(2, 3), revoke(4, 5)],
    "no while nobody ever revokes": [create(0, 1), no(2, 3)],
    "yes before it was created": [yes(0, 1), create(2, 3)],
    "unknown after it was created": [create(0, 1), no(2, 3, "unknown")],
    "revoked while it lives": [create(0, 1), no(2, 3, "revoked"), yes(4, 5)],
    "created twice": [create(0, 3), create(1, 4)],
    "exists, and nobody made it": [create(0, 1, "exists")],
    "the lost revoke took effect before it was asked for": [
        create(0, 1),
        no(2, 3),
        lost(REVOKE, 4),
    ],
    "the lost revoke was taken back": [create(0, 1), lost(REVOKE, 2), no(3, 4), yes(5, 6)],
    "a second revoke gives no life": [create(0, 1), revoke(2, 3), revoke(4, 8), yes(5, 6)],
    "cancelled, and the newer one is good": [
        *(create(0, 1), rotate(2, 3), done(CANCEL, 4, 5), newer(yes(6, 7))),
    ],
    "completed, and the older one is good": [
        *(create(0, 1), rotate(2, 3), done(COMPLETE, 4, 5), yes(6, 7)),
    ],
    "finished twice": [create(0, 1), rotate(2, 3), finish(4, 6), finish(4, 6)],
    "finished and cancelled": [create(0, 1), rotate(2, 3), finish(4, 6), done(CANCEL, 4, 6)],
    "rotated twice": [
        *(create(0, 1), rotate(2, 3), Operation(ROTATE, "rotated", 2, 3, subject=2)),
    ],
    "an end that came is taken away": [
        *(create(0, 1), done(LIMIT, 2, 3, 1), end(4), done(UNLIMIT, 5, 6)),
    ],
    "good after its end": [create(0, 1), done(LIMIT, 2, 3, 1), end(4), yes(5, 6)],
    "listed as if nobody had completed it": [
        *(create(0, 1), rotate(2, 3), done(COMPLETE, 4, 5)),
        Operation(LIST, "older newer", 6, 7),
    ],
}


@pytest.mark.parametrize("history", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_a_history_that_some_order_explains_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history, step, ABSENT)
    assert by_trying_all_orders(history)


@pytest.mark.parametrize("history", NOT_LINEARIZABLE.values(), ids=NOT_LINEARIZABLE)
def test_a_history_that_no_order_explains_is_rejected(history: list[Operation]) -> None:
    assert not is_linearizable(history, step, ABSENT)
    assert not by_trying_all_orders(history)


def test_a_hundred_overlapping_operations_take_no_hundred_factorial() -> None:
    """What is remembered keeps the search small: without it this would not end."""
    together = [create(0, 1), *(yes(2 + n / 100, 50) for n in range(98)), revoke(3, 40)]
    assert is_linearizable(together, step, ABSENT)
    late = [create(0, 1), *(yes(2, 50) for _ in range(12)), revoke(3, 40), yes(51, 52)]
    assert not is_linearizable(late, step, ABSENT)


def reachable() -> list[Token]:
    """Every state that some operations lead to."""
    found, new = {ABSENT}, [ABSENT]
    while new:
        state = new.pop()
        asked = (Operation(kind, None, 0, subject=subject) for kind, subject in ASKED)
        after = {reached for one in asked if (reached := step(state, one)) is not None} - found
        found |= after
        new += after
    return sorted(found)


STATES = reachable()
TOLD = {
    asked: sorted({told for state in STATES for told in answers(asked[0], state, asked[1])})
    for asked in ASKED
}


def operations(asked: tuple[str, int]) -> st.SearchStrategy[Operation]:
    kind, subject = asked
    instants = st.integers(0, 8)

    def make(answer: str | None, invoked_at: int, took: int) -> Operation:
        answered_at = inf if answer is None else invoked_at + took
        return Operation(kind, answer, invoked_at, answered_at, subject)

    return st.builds(make, st.none() | st.sampled_from(TOLD[asked]), instants, instants)


@given(st.lists(st.sampled_from(ASKED).flatmap(operations), max_size=5), st.sampled_from(STATES))
@settings(max_examples=150)
def test_it_agrees_with_trying_all_orders(history: list[Operation], initial: Token) -> None:
    assert is_linearizable(history, step, initial) == by_trying_all_orders(history, initial)


@given(st.data())
@settings(max_examples=60)
def test_what_did_happen_in_some_order_is_accepted(data: st.DataObject) -> None:
    """A sequential run, each operation stretched around the instant of its effect,
    some answers lost.
    """
    state, history = data.draw(st.sampled_from(STATES)), []
    initial = state
    for instant, (kind, subject) in enumerate(
        data.draw(st.lists(st.sampled_from(ASKED), max_size=12))
    ):
        answer = data.draw(st.sampled_from(sorted(answers(kind, state, subject))))
        before, after = data.draw(st.tuples(st.floats(0, 4), st.floats(0, 4)))
        told = Operation(kind, answer, instant - before, instant + after, subject)
        reached = step(state, told)
        assert reached is not None
        state = reached
        is_lost = data.draw(st.integers(0, 4)) == 0
        history.append(lost(kind, told.invoked_at, subject) if is_lost else told)
    assert is_linearizable(data.draw(st.permutations(history)), step, initial)


def by_trying_all_orders(history: Sequence[Operation], initial: Token = ABSENT) -> bool:
    """The definition, literally: some of the lost ones took effect,
    and some order explains all answers.
    """
    return any(
        _respects_time(order) and _is_explained(order, initial)
        for chosen in _completions(history)
        for order in permutations(chosen)
    )


def _completions(history: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    told = [operation for operation in history if operation.answer is not None]
    unknown = [operation for operation in history if operation.answer is None]
    for count in range(len(unknown) + 1):
        for chosen in combinations(unknown, count):
            yield [*told, *chosen]


def _respects_time(order: Sequence[Operation]) -> bool:
    return all(later.answered_at >= earlier.invoked_at for earlier, later in combinations(order, 2))


def _is_explained(order: Sequence[Operation], initial: Token) -> bool:
    state: Token | None = initial
    for operation in order:
        state = None if state is None else step(state, operation)
    return state is not None


def test_what_has_ended_is_final_in_the_model() -> None:
    """No order of operations leads back: a model that could live again would explain too much.

    But what is suspended may be resumed, and an older secret goes on where the newer one is
    cancelled.
    """
    for before in STATES:
        for kind, subject in ASKED:
            after = step(before, Operation(kind, None, 0, subject=subject))
            assert after is not None
            assert after.is_created >= before.is_created
            assert after.is_revoked >= before.is_revoked
            assert after.has_expired >= before.has_expired
            assert after.is_suspended >= before.is_suspended or kind == RESUME
            returned = set(after.secrets) - set(before.secrets)
            assert not returned or kind in {CREATE, ROTATE, ROTATE_AT_ONCE}
            assert not returned or before.made not in returned - {0}
            if kind in {SUSPEND, RESUME, RENAME, LIMIT, UNLIMIT, END, AUTHENTICATE}:
                assert after.secrets == before.secrets

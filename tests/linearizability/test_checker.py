"""The checker itself: histories decided by hand, and every small one against trying all orders."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability.checker import Operation, is_linearizable
from tests.linearizability.token_model import (
    ABSENT,
    ANSWERS,
    AUTHENTICATE,
    BURN,
    CREATE,
    KINDS,
    LIVE,
    RESUME,
    REVOKE,
    REVOKED,
    STATES,
    SUSPENDED,
    step,
)


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


def lost(kind: str, invoked_at: float) -> Operation:
    return Operation(kind, None, invoked_at)


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


def operations(kind: str) -> st.SearchStrategy[Operation]:
    answers = sorted({answer for state in STATES for answer in ANSWERS[kind, state]})
    instants = st.integers(0, 8)

    def make(answer: str | None, invoked_at: int, took: int) -> Operation:
        return Operation(kind, answer, invoked_at, inf if answer is None else invoked_at + took)

    return st.builds(make, st.none() | st.sampled_from(answers), instants, instants)


@given(st.lists(st.sampled_from(KINDS).flatmap(operations), max_size=5), st.sampled_from(STATES))
@settings(max_examples=150)
def test_it_agrees_with_trying_all_orders(history: list[Operation], initial: str) -> None:
    assert is_linearizable(history, step, initial) == by_trying_all_orders(history, initial)


@given(st.data())
@settings(max_examples=60)
def test_what_did_happen_in_some_order_is_accepted(data: st.DataObject) -> None:
    """A sequential run, each operation stretched around the instant of its effect,
    some answers lost.
    """
    state, history = data.draw(st.sampled_from(STATES)), []
    initial = state
    for instant, kind in enumerate(data.draw(st.lists(st.sampled_from(KINDS), max_size=12))):
        answer = data.draw(st.sampled_from(sorted(ANSWERS[kind, state])))
        before, after = data.draw(st.tuples(st.floats(0, 4), st.floats(0, 4)))
        told = Operation(kind, answer, instant - before, instant + after)
        reached = step(state, told)
        assert reached is not None
        state = reached
        is_lost = data.draw(st.integers(0, 4)) == 0
        history.append(Operation(kind, None, told.invoked_at) if is_lost else told)
    assert is_linearizable(data.draw(st.permutations(history)), step, initial)


def by_trying_all_orders(history: Sequence[Operation], initial: str = ABSENT) -> bool:
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


def _is_explained(order: Sequence[Operation], initial: str) -> bool:
    state: str | None = initial
    for operation in order:
        state = None if state is None else step(state, operation)
    return state is not None


def test_revoked_is_final_in_the_model() -> None:
    """No order of operations leads back: a model that could live again would explain too much.

    But what is suspended may be resumed.
    """
    for after in (LIVE, SUSPENDED, REVOKED):
        assert all(step(after, Operation(kind, None, 0)) != ABSENT for kind in KINDS), after
    assert all(step(REVOKED, Operation(kind, None, 0)) in {None, REVOKED} for kind in KINDS)
    back = {kind for kind in KINDS if step(SUSPENDED, Operation(kind, None, 0)) == LIVE}
    assert back == {RESUME}
    assert step(LIVE, Operation(REVOKE, None, 0)) != LIVE

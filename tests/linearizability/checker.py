"""Whether a concurrent history could have happened one operation at a time: Wing and Gong's search.

J. Wing, C. Gong, "Testing and verifying concurrent objects" (1993): try as the next operation any
that was invoked before the earliest answer still outstanding. G. Lowe, "Testing for
linearizability" (2017): remember each pair (operations done, state), for whoever comes to it twice
fails twice. The search is exponential in how much overlaps, not in how long a history is.

Linearizability is local (M. Herlihy, J. Wing, "Linearizability", 1990, theorem 1): a history is
linearizable if and only if it is for each object by itself. Here an object is a token, and each is
checked alone.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one object, as its client saw it. Instants are of one clock.

    answer: None when it is not known, and then `answered_at` is infinite: it takes effect at any
    time after its invocation, or never. subject: what it is about, where the kind leaves that open.
    """

    kind: str
    answer: str | None
    invoked_at: float
    answered_at: float = inf
    subject: int = 0


def is_linearizable(
    history: Sequence[Operation], step: Callable[[State, Operation], State | None], initial: State
) -> bool:
    """Whether some order explains every answer and puts nothing before what was answered before it
    began.

    step: the state after an operation, None when its answer is impossible in this state.
    """
    answered = sum(
        1 << place for place, operation in enumerate(history) if operation.answer is not None
    )
    tried: set[tuple[int, State]] = set()
    untried = [(0, initial)]
    while untried:
        reached = done, state = untried.pop()
        if done & answered == answered:
            return True  # those of unknown outcome that are left never took effect
        if reached in tried:
            continue
        tried.add(reached)
        left = [
            (1 << place, operation)
            for place, operation in enumerate(history)
            if not done >> place & 1
        ]
        earliest_answer = min(operation.answered_at for _, operation in left)
        for bit, operation in left:
            after = step(state, operation) if operation.invoked_at <= earliest_answer else None
            if after is not None:
                untried.append((done | bit, after))
    return False

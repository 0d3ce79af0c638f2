"""Random plans: what each of eight clients does with one or two tokens, in its order."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from tests.linearizability.token_model import (
    AUTHENTICATE,
    BURN,
    CANCEL,
    COMPLETE,
    CREATE,
    FINISH,
    LIMIT,
    LIST,
    RENAME,
    RESTRICT,
    RESUME,
    REVOKE,
    ROTATE,
    ROTATE_AT_ONCE,
    SUSPEND,
    UNLIMIT,
    WIDEN,
)
from tests.presenting import FORWARD, NGINX, SCIM, VERIFY, Door

CLIENTS: Final = 8
AWAIT_END: Final = "await end"
"""No operation: wait until the end that was asked for last is over."""
_DOORS: Final = (VERIFY, VERIFY, NGINX, FORWARD, SCIM)
"""Mostly /verify, for it tells most: why not."""
_ENDINGS: Final = (REVOKE, BURN)
_PAUSES: Final = ((SUSPEND, RESUME), (RESTRICT, WIDEN))
_WAYS_TO_END_A_ROTATION: Final = (COMPLETE, CANCEL, FINISH)


class Step(NamedTuple):
    """One thing for one client to do. place: of the token among those of the history.

    is_abandoned: hang up instead of waiting for the answer. is_newer: present the secret that the
    rotation made, where it is known.
    """

    kind: str
    place: int
    door: Door = VERIFY
    is_abandoned: bool = False
    is_newer: bool = False


Plan = Sequence[Sequence[Step]]


def plan(random: Random) -> Plan:
    """One or two tokens; some clients create each (one gets it), and all use it.

    Meanwhile it is rotated, changed, suspended or restricted, and it ends in the middle.
    """
    steps: list[list[Step]] = [[] for _ in range(CLIENTS)]
    tokens = range(random.randint(1, 2))
    for place in tokens:
        for client in random.sample(range(CLIENTS), random.choice([1, 1, 2])):
            steps[client].append(Step(CREATE, place, is_abandoned=random.random() < 0.05))
    for client in range(CLIENTS):
        if random.random() < 0.15:
            pause, end = random.choice(_PAUSES)
            steps[client].append(Step(pause, random.choice(tokens)))
            steps[random.randrange(CLIENTS)].append(Step(end, random.choice(tokens)))
        steps[client] += [_later_step(random, tokens) for _ in range(random.choice([1, 2, 2]))]
    for place in tokens:
        _rotate(random, steps, place)
        is_changed = random.random() < 0.35
        if is_changed:
            _change(random, steps, place)
        if not is_changed or random.random() < 0.6:
            _end(random, steps, place)
    return steps


def _end(random: Random, steps: list[list[Step]], place: int) -> None:
    """Somebody ends the token while a few present it, time and again, at about the same step."""
    ended = random.choice(steps)
    index = random.choice([max(0, len(ended) - 1), len(ended)])
    kind, is_newer = random.choice(_ENDINGS), random.random() < 0.5
    ended.insert(index, Step(kind, place, is_newer=is_newer))
    for client in random.sample(steps, 2):
        after = max(index, sum(step.kind == CREATE for step in client))
        client[after:after] = [Step(AUTHENTICATE, place, random.choice(_DOORS)) for _ in range(3)]


def _later_step(random: Random, tokens: Sequence[int]) -> Step:
    place, is_newer = random.choice(tokens), random.random() < 0.5
    if random.random() < 0.93:
        return Step(AUTHENTICATE, place, random.choice(_DOORS), is_newer=is_newer)
    if random.random() < 0.5:
        return Step(
            random.choice(random.choice(_PAUSES)), place, is_abandoned=random.random() < 0.2
        )
    is_abandoned = random.random() < 0.5
    return Step(random.choice(_ENDINGS), place, is_abandoned=is_abandoned, is_newer=is_newer)


def _rotate(random: Random, steps: list[list[Step]], place: int) -> None:
    """In half of the histories one or two clients rotate, and some end it, each in its own way."""
    if random.random() < 0.5:
        return
    for client in random.sample(range(CLIENTS), random.choice([1, 1, 2])):
        kind = random.choice([ROTATE, ROTATE, ROTATE, ROTATE_AT_ONCE])
        steps[client] += [
            Step(kind, place, is_abandoned=random.random() < 0.05),
            Step(random.choice(_WAYS_TO_END_A_ROTATION), place),
            *(Step(AUTHENTICATE, place, is_newer=is_newer) for is_newer in (True, False)),
        ]
    for client in random.sample(range(CLIENTS), random.choice([0, 1, 2, 3])):
        kind = random.choice(_WAYS_TO_END_A_ROTATION)
        steps[client].append(Step(kind, place, is_abandoned=random.random() < 0.05))
    if random.random() < 0.3:
        random.choice(steps).append(Step(LIST, place))


def _change(random: Random, steps: list[list[Step]], place: int) -> None:
    """A name or an end is changed, and somebody waits for the end."""
    for client in random.sample(range(CLIENTS), random.choice([1, 2])):
        is_abandoned = random.random() < 0.1
        steps[client].append(
            Step(random.choice([RENAME, LIMIT, LIMIT]), place, VERIFY, is_abandoned)
        )
    steps[random.randrange(CLIENTS)] += [
        Step(random.choice([UNLIMIT, RENAME, LIST]), place),
        Step(AWAIT_END, place),
        Step(random.choice([UNLIMIT, RENAME, ROTATE, LIST, FINISH]), place),
        *(Step(AUTHENTICATE, place, is_newer=is_newer) for is_newer in (True, False)),
    ]

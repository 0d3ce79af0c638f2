"""What a use costs in bare answers: processor time,
which does not change with the cores that a load shares.

One bare answer is what a Litestar handler costs that answers 204 on the same worker: the time of
the whole machine, but for the load generator's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import Load
from tests.benchmarks.result import Row, at_most
from tests.benchmarks.sections.authenticate import STATUS, Case, cases, door
from tests.benchmarks.undisturbed import told, undisturbed
from tests.benchmarks.wrk import Slice
from tests.stopwatch import busy_s

_CONNECTIONS: Final = 32
_MOST: Final = {"in turn": at_most(2.2), "one hot token": at_most(1.35)}


@dataclass(frozen=True, slots=True)
class _Costed:
    """A slice, and the microseconds of processor time that one of its answers cost."""

    slice: Slice
    us: float


def bare_answers(bench: Bench) -> Iterator[Row]:
    """Good tokens at a door, in turn and a hot one, and what is refused there."""
    with bench.service(bench.small) as service, bench.floor("floors:no_content") as floor:
        path = door(service, bench.small)
        for case in cases(bench.small.tokens, STATUS[path]):
            if case.connections == _CONNECTIONS:
                requests = bench.requests("GET", [path], case.tokens)
                yield _compared(
                    bench, case, bench.load(floor, requests), bench.load(service, requests)
                )


def _compared(bench: Bench, case: Case, floor: Load, ours: Load) -> Row:
    floor(), ours()
    pairs, thrown_away = undisturbed(lambda: (_cost(floor), _cost(ours)), rounds=bench.rounds)
    return _row(case, pairs, told(thrown_away))


def _row(case: Case, pairs: list[tuple[_Costed, _Costed]], note: str) -> Row:
    bare = median(floor.us for floor, _ in pairs)
    ours = median(found.us for _, found in pairs)
    rate = median(found.slice.rate / floor.slice.rate for floor, found in pairs)
    return Row(
        f"cost in bare answers: {case.what}",
        [found.us / floor.us for floor, found in pairs],
        next((most for what, most in _MOST.items() if case.what.endswith(what)), None),
        p99_ms=median(found.slice.p99_ms for _, found in pairs),
        rate=median(found.slice.rate for _, found in pairs),
        note="; ".join(
            filter(None, [f"{bare:.0f} us bare, {ours:.0f} ours, rate {rate:.2f} of bare", note])
        ),
    )


def _cost(load: Load) -> _Costed:
    before, of_load = busy_s(), _children()
    found = load()
    spent = busy_s() - before - (_children() - of_load)
    return _Costed(found, 1e6 * spent / max(found.answers, 1))


def _children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

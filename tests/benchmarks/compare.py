"""Two loads side by side: short slices in turn,
so that whatever else the machine does hits both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import TypeAlias

from tests.benchmarks.result import Row, Target
from tests.benchmarks.undisturbed import told, undisturbed
from tests.benchmarks.wrk import Slice

Load: TypeAlias = Callable[[], Slice]
"""Runs one slice. It returns when the service has nothing left to do for it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Slices of a floor and of ours, by round.

    thrown_away: pairs that another guest of the host spoilt.
    """

    floor: Sequence[Slice]
    ours: Sequence[Slice]
    thrown_away: int = 0

    @property
    def ratios(self) -> list[float]:
        """Our share of the floor's rate, by round; infinite where the floor answered nothing."""
        return [
            ours.rate / floor.rate if floor.rate else inf
            for floor, ours in zip(self.floor, self.ours, strict=True)
        ]

    def row(
        self, what: str, target: Target | None, *, is_refusal: bool = False, note: str = ""
    ) -> Row:
        """The ratio as a row.

        is_refusal: every answer of ours should be 400 or above, otherwise none.
        """
        notes = [note, _unexpected(self.floor, is_refusal=False, whose="floor")]
        notes.append(_unexpected(self.ours, is_refusal=is_refusal, whose="ours"))
        notes.append(told(self.thrown_away))
        return Row(
            what,
            self.ratios,
            target,
            p99_ms=median(ours.p99_ms for ours in self.ours),
            rate=median(ours.rate for ours in self.ours),
            note="; ".join(filter(None, notes)),
        )

    def p99_row(self, what: str, target: Target) -> Row:
        """The 99th percentile of ours as a row of its own."""
        return Row(what, [ours.p99_ms for ours in self.ours], target, unit="ms")


def compare(floor: Load, ours: Load, *, rounds: int) -> Comparison:
    """Floor, ours, floor, ours, …; one slice of each before that, to warm up, is thrown away."""
    floor(), ours()
    pairs, thrown_away = undisturbed(lambda: (floor(), ours()), rounds=rounds)
    return Comparison([pair[0] for pair in pairs], [pair[1] for pair in pairs], thrown_away)


def _unexpected(slices: Sequence[Slice], *, is_refusal: bool, whose: str) -> str:
    wrong = sum(
        slice_.answers - slice_.refused if is_refusal else slice_.refused for slice_ in slices
    )
    lost = sum(slice_.lost for slice_ in slices)
    return f"UNEXPECTED: {whose} {wrong} answers, {lost} lost" if wrong or lost else ""

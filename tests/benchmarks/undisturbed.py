"""Measurements that count: those during which the host did not give the
processors to other guests.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from tests.stopwatch import processor_time

Found = TypeVar("Found")

STOLEN_MAX: Final = 0.02
"""Share of the processors' time that the host may give to others during a measurement."""

TRIES: Final = 3
"""Measurements that are made at most, for each that counts."""


def undisturbed(measure: Callable[[], Found], *, rounds: int) -> tuple[list[Found], int]:
    """`rounds` measurements, and how many were thrown away because the host gave the processors
    away.

    Unless that goes on and on: then the last ones count as they are.
    """
    found: list[Found] = []
    thrown_away = 0
    while len(found) < rounds:
        total, stolen = processor_time()
        one = measure()
        total, stolen = (
            after - before for after, before in zip(processor_time(), (total, stolen), strict=True)
        )
        if stolen > STOLEN_MAX * total and thrown_away < (TRIES - 1) * rounds:
            thrown_away += 1
        else:
            found.append(one)
    return found, thrown_away


def told(thrown_away: int) -> str:
    """For the note of a row."""
    return f"{thrown_away} stolen" if thrown_away else ""

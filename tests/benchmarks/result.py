"""What a section reports: rows with a value per round, a target, and a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

_HEADER: Final = ("what", "median", "range", "target", "verdict", "p99 ms", "rate/s", "note")
_WIDTHS: Final = (58, 10, 19, 9, 7, 7, 8)


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a median should keep, inclusive. is_minimum: it should be at least that much."""

    bound: float
    is_minimum: bool

    def __str__(self) -> str:
        return f"{'>=' if self.is_minimum else '<='} {self.bound:g}"

    def is_met(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return value >= self.bound if self.is_minimum else value <= self.bound


def at_least(bound: float) -> Target:
    """A target for what should be large."""
    return Target(bound, is_minimum=True)


def at_most(bound: float) -> Target:
    """A target for what should be small."""
    return Target(bound, is_minimum=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    values: one per round, in `unit` (empty for a ratio). p99_ms, rate: of ours, medians, where they
    apply. note: what a reader should know, such as unexpected answers.
    """

    what: str
    values: Sequence[float]
    target: Target | None = None
    unit: str = ""
    p99_ms: float | None = None
    rate: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """The value that is reported."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """met, missed, or empty without a target."""
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.median) else "missed"


def header() -> str:
    """The head of the table."""
    return f"{_line(_HEADER)}\n{_line(['-' * width for width in _WIDTHS])}"


def line(row: Row) -> str:
    """One row of the table."""
    low, high = min(row.values), max(row.values)
    return _line(
        (
            row.what,
            f"{_short(row.median)} {row.unit}".rstrip(),
            f"{_short(low)} to {_short(high)}",
            "" if row.target is None else str(row.target),
            row.verdict,
            "" if row.p99_ms is None else _short(row.p99_ms),
            "" if row.rate is None else f"{row.rate:,.0f}",
            row.note,
        )
    )


def as_dict(row: Row) -> dict[str, object]:
    """The row for a file of results."""
    return {
        "what": row.what,
        "median": row.median,
        "values": list(row.values),
        "unit": row.unit,
        "target": None if row.target is None else str(row.target),
        "verdict": row.verdict or None,
        "p99_ms": row.p99_ms,
        "rate": row.rate,
        "note": row.note or None,
    }


def _line(cells: Sequence[str]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join([*padded, *cells[len(_WIDTHS) :]]).rstrip()


def _short(value: float) -> str:
    return (
        f"{value:.3f}"
        if abs(value) < 1
        else f"{value:.2f}"
        if abs(value) < 100
        else f"{value:,.0f}"
    )

"""Counters, gauges and histograms of one process: integers in the cells of a block of memory.

To count is to add to a cell, from the one thread that serves: nothing is locked. What a metric is
called and who reads it is the edge's business (`api/telemetry`); without one, nobody reads.
"""

from bisect import bisect_left
from collections.abc import Hashable, Mapping, MutableSequence, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

Cells: TypeAlias = MutableSequence[int] | memoryview
Key = TypeVar("Key", bound=Hashable)


class Counter(Generic[Key]):
    """Counts by label values. indexes: the cell of each value; others are not counted.

    A value from outside can therefore never make a series.
    """

    __slots__ = ("_cells", "_indexes")

    def __init__(self, cells: Cells, indexes: Mapping[Key, int]) -> None:
        self._cells = cells
        self._indexes = indexes

    def add(self, key: Key) -> None:
        """Count one more."""
        index = self._indexes.get(key)
        if index is not None:
            self._cells[index] += 1


NOT_COUNTED: Final[Counter[Any]] = Counter([], {})
"""For whoever has nobody to tell."""


class Gauge:
    """One number that goes up and down."""

    __slots__ = ("_cells", "_index")

    def __init__(self, cells: Cells, index: int) -> None:
        self._cells = cells
        self._index = index

    @property
    def value(self) -> int:
        """How many it is."""
        return self._cells[self._index]

    def set(self, value: int) -> None:
        """It is so many now."""
        self._cells[self._index] = value

    def add(self, difference: int) -> None:
        """It is so many more, or fewer."""
        self._cells[self._index] += difference


class Histogram:
    """How often values were how large. bounds: inclusive, rising; in the unit of the values.

    Its cells: one for each bound, one for what is above, and the sum.
    """

    __slots__ = ("_bounds", "_cells", "_first", "_sum")

    def __init__(self, cells: Cells, first: int, bounds: Sequence[int]) -> None:
        self._cells = cells
        self._first = first
        self._bounds = bounds
        self._sum = first + len(bounds) + 1

    def observe(self, value: int) -> None:
        """There is one more value."""
        self._cells[self._first + bisect_left(self._bounds, value)] += 1
        self._cells[self._sum] += value


def _no_gauge() -> Gauge:
    return Gauge([0], 0)


def _no_histogram() -> Histogram:
    return Histogram([0, 0], 0, ())


class BatchTracer(Protocol):
    """Follows jobs into the batches that answer them."""

    def asked(self) -> object:
        """Who submits a job now; it is kept with the job."""

    def batch(
        self, lane: str, jobs: int, origins: Sequence[object]
    ) -> AbstractContextManager[None]:
        """Around a batch. origins: of its jobs, as `asked` told them."""


@dataclass(frozen=True, slots=True)
class LaneInstruments:
    """Of one queue that commits in groups. Times are microseconds.

    waiting: jobs that wait now. depth: those that waited when a batch began. batch: jobs of a
    batch. lock_wait: for the append lock. append: from sending a batch until it is committed.
    limited: by "queue", jobs that found it full. tracer: None where nobody traces.
    """

    name: str = ""

    waiting: Gauge = field(default_factory=_no_gauge)
    depth: Histogram = field(default_factory=_no_histogram)
    batch: Histogram = field(default_factory=_no_histogram)
    lock_wait: Histogram = field(default_factory=_no_histogram)
    append: Histogram = field(default_factory=_no_histogram)
    limited: Counter[str] = NOT_COUNTED
    tracer: BatchTracer | None = None


@dataclass(frozen=True, slots=True)
class ReadInstruments:
    """Of the connections for reads. Times are microseconds.

    in_use: connections that are lent now. pool_wait: for one. view_wait: of a read for its views.
    timed_out: reads that gave up, by what they waited for: "connection", "database", "view" or
    "stopped_view".
    """

    in_use: Gauge = field(default_factory=_no_gauge)
    pool_wait: Histogram = field(default_factory=_no_histogram)
    view_wait: Histogram = field(default_factory=_no_histogram)
    timed_out: Counter[str] = NOT_COUNTED


@dataclass(frozen=True, slots=True)
class LedgerInstruments:
    """Of a ledger. Nobody reads those that are made without arguments."""

    uses: LaneInstruments = field(default_factory=LaneInstruments)
    commands: LaneInstruments = field(default_factory=LaneInstruments)
    reads: ReadInstruments = field(default_factory=ReadInstruments)

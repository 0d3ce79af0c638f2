"""Memory that the processes of one `serve` share: each counts on a page of its own, and any worker
adds up all pages.

A page outlives its worker, because the supervisor holds the memory: a worker that died keeps its
counts, and the one in its place goes on from there. A library's directory of files per process
would cost ten times as much an increment.
"""

import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from api.telemetry.catalogue import (
    CELLS,
    COUNTED,
    FIRST_CELLS,
    QUESTIONS,
    WARNINGS_ROUND,
    WORKER_STARTS,
)
from domain.instruments import Gauge

_CELL_BYTES: Final = 8
_PAGE_BYTES: Final = -(-CELLS * _CELL_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
_PAGE_CELLS: Final = _PAGE_BYTES // _CELL_BYTES


def new_pages(workers: int) -> int | None:
    """A descriptor of memory for so many workers, and for the projection process behind them; None
    where the kernel has none.
    """
    if sys.platform != "linux":
        return None
    fd = os.memfd_create("scim-ledger-metrics")
    os.ftruncate(fd, (workers + 1) * _PAGE_BYTES)
    return fd


def warnings_since(fd: int | None) -> Mapping[str, Gauge]:
    """The gauges of `Rounds`, on the page of the projection process; what they were, they stay.

    fd: as of `Pages`.
    """
    cells = _memory(fd)[-_PAGE_CELLS:]
    return {
        question: Gauge(cells, FIRST_CELLS[WARNINGS_ROUND.name][question,])
        for question in QUESTIONS
    }


class Pages:
    """All pages, of which one is this worker's.

    fd: of `new_pages`, None for a process that serves alone. worker_number: 1 to N.
    """

    def __init__(self, fd: int | None = None, worker_number: int = 1) -> None:
        self._memory = _memory(fd)
        first = (worker_number - 1) * _PAGE_CELLS
        self.own = self._memory[first : first + CELLS]
        for metric in COUNTED:
            if metric.type == "gauge":  # what was open in the worker before is not any more
                for cell in FIRST_CELLS[metric.name].values():
                    self.own[cell] = 0
        self.own[FIRST_CELLS[WORKER_STARTS.name][()]] += 1

    def sums(self) -> Sequence[int]:
        """Each cell, added up over all pages."""
        cells = self._memory.tolist()
        pages = [cells[first : first + CELLS] for first in range(0, len(cells), _PAGE_CELLS)]
        return [sum(of_each) for of_each in zip(*pages, strict=True)]


def _memory(fd: int | None) -> "memoryview[int]":
    size = _PAGE_BYTES if fd is None else os.fstat(fd).st_size
    return memoryview(mmap.mmap(-1 if fd is None else fd, size)).cast("q")

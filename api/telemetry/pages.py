"""Memory that the workers of one `serve` share: each counts on a page of its own, and any of them
adds up all pages.

A page outlives its worker, because the supervisor holds the memory: a worker that died keeps its
counts, and the one in its place goes on from there. A library's directory of files per process
would cost ten times as much an increment.
"""

import mmap
import os
import sys
from collections.abc import Sequence
from typing import Final

from api.telemetry.catalogue import CELLS, COUNTED, PLACES, WORKER_STARTS

_CELL_BYTES: Final = 8
_PAGE_BYTES: Final = -(-CELLS * _CELL_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE


def new_pages(workers: int) -> int | None:
    """A descriptor of memory for so many workers; None where the kernel has none."""
    if sys.platform != "linux":
        return None
    fd = os.memfd_create("scim-ledger-metrics")
    os.ftruncate(fd, workers * _PAGE_BYTES)
    return fd


class Pages:
    """The pages of all workers, of which one is ours.

    fd: of `new_pages`, None for a process that serves alone. worker_number: 1 to N.
    """

    def __init__(self, fd: int | None = None, worker_number: int = 1) -> None:
        size = _PAGE_BYTES if fd is None else os.fstat(fd).st_size
        self._memory = memoryview(mmap.mmap(-1 if fd is None else fd, size)).cast("q")
        first = (worker_number - 1) * _PAGE_BYTES // _CELL_BYTES
        self.own = self._memory[first : first + CELLS]
        for metric in COUNTED:
            if metric.type == "gauge":  # what was open in the worker before is not any more
                for place in PLACES[metric.name].values():
                    self.own[place] = 0
        self.own[PLACES[WORKER_STARTS.name][()]] += 1

    def sums(self) -> Sequence[int]:
        """Each cell, added up over all workers."""
        cells = self._memory.tolist()
        step = _PAGE_BYTES // _CELL_BYTES
        pages = [cells[first : first + CELLS] for first in range(0, len(cells), step)]
        return [sum(of_each) for of_each in zip(*pages, strict=True)]

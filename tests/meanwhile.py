"""Work that threads go on with while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.service import until


@contextmanager
def meanwhile(
    work: Callable[[int], None],
    *,
    threads: int,
    has_begun: Callable[[], bool],
    stopping: threading.Event,
) -> Iterator[None]:
    """Run `work` in threads, each with its number, for as long as the block takes.

    The block begins when `has_begun` says so, or a thread has ended; then `stopping` is set. Raises
    what the first thread raised.
    """
    with ThreadPoolExecutor(threads) as pool:
        working = [pool.submit(work, number) for number in range(threads)]
        try:
            until(
                lambda: has_begun() or any(each.done() for each in working),
                what="the work's beginning",
            )
            yield
        finally:
            stopping.set()
            for each in working:
                each.result()

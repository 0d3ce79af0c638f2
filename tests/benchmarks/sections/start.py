"""Starting: from the command to the first answer."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.bench import Bench
from tests.benchmarks.result import Row, at_most


def start(bench: Bench) -> Iterator[Row]:
    """`scim-ledger serve --data-dir` until GET /readyz answers 200."""
    fresh = [bench.work / f"first-{number}" for number in range(bench.rounds)]
    yield Row(
        "first start, creating the database",
        [_start_s(bench, path) for path in fresh],
        at_most(10),
        "s",
    )
    events = bench.big.seeded.events
    with bench.store.stopped():
        later = [_start_s(bench, bench.store.base_dir) for _ in range(bench.rounds)]
    yield Row(f"later start, {events:,} events", later, at_most(5), "s")


def _start_s(bench: Bench, data_dir: Path) -> float:
    started = time.perf_counter()
    with servers.service(log=bench.work / "service.log", data_dir=data_dir):
        return time.perf_counter() - started

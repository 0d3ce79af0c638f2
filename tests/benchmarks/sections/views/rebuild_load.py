"""Authenticating while all views are rebuilt: what a rebuild takes away from the doors."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks import wrk
from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import Comparison
from tests.benchmarks.result import Row, at_least, at_most
from tests.benchmarks.sections.authenticate import STATUS, door
from tests.benchmarks.servers import PEPPER_KEY
from tests.benchmarks.store import Database
from tests.benchmarks.undisturbed import undisturbed
from tests.benchmarks.wrk import Slice

CLIENTS: Final = 32
COMMAND: Final = Path(sys.executable).with_name("scim-ledger")


def rebuild_load(bench: Bench) -> Iterator[Row]:
    """Slices of load from the beginning to the end of a rebuild of a million events,
    against some before.
    """
    ledger = bench.million
    with bench.service(ledger) as service:
        path = door(service, ledger)
        requests = bench.requests("GET", [path], ledger.tokens)

        def load() -> Slice:
            return wrk.load(service.url, requests, connections=CLIENTS, seconds=bench.seconds)

        load()  # to warm up
        at_rest, _ = undisturbed(load, rounds=max(3, bench.rounds))
        service.settle()
        beside: list[Slice] = []
        thrown_away = 0
        with _rebuild(ledger.database) as rebuilding:
            while True:
                slices, stolen = undisturbed(load, rounds=1)
                if rebuilding.poll() is not None:
                    break  # somewhere in the last slice
                beside += slices
                thrown_away += stolen
        service.settle()
    typical = sorted(at_rest, key=lambda slice_: slice_.rate)[len(at_rest) // 2]
    found = Comparison([typical] * len(beside), beside, thrown_away)
    what = "authenticate, c32, while all views are rebuilt / else"
    yield found.row(what, at_least(0.6), is_refusal=STATUS[path] >= 400)
    p99s, rest_ms = (
        [slice_.p99_ms for slice_ in beside],
        median(slice_.p99_ms for slice_ in at_rest),
    )
    yield Row(f"{what}, p99", [p99 / rest_ms for p99 in p99s], at_most(2), p99_ms=median(p99s))


@contextmanager
def _rebuild(database: Database) -> Iterator[subprocess.Popen[bytes]]:
    """A rebuild of all views, in another session than the load generator, as from an operator's
    shell: in the same one it would take the processor from that (sched(7), autogroup). Drops its
    old tables afterwards."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SCIM_LEDGER_")
    }
    environment = inherited | {"DATABASE_URL": database.app, "SCIM_LEDGER_PEPPER": PEPPER_KEY}
    process = subprocess.Popen(
        [COMMAND, "projections", "rebuild", "--all"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
        assert process.returncode == 0
    finally:
        process.terminate()
        process.wait()
    subprocess.run(
        [COMMAND, "projections", "drop-old"], env=environment, check=True, capture_output=True
    )

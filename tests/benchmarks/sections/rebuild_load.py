"""Authenticating while all views are rebuilt: what a rebuild takes away from the doors."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from tests.benchmarks.wrk import Slice

CLIENTS: Final = 32
UNDER_LOAD: Final = 1.5
"""How much longer it takes then. Slices as long as the rebuild before would grow with it,
by the load and by the events that it makes."""
COMMAND: Final = Path(sys.executable).with_name("scim-ledger")


def rebuild_load(bench: Bench) -> Iterator[Row]:
    """`scim-ledger projections rebuild --all` over a million events, and load for as long as it takes."""
    ledger = bench.million
    with bench.service(ledger) as service:
        path = door(service, ledger)
        requests = bench.requests("GET", [path], ledger.tokens)
        seconds = int(UNDER_LOAD * _rebuild(ledger.database, lambda: None))

        def beside_a_rebuild() -> Slice:
            found: list[Slice] = []
            _rebuild(
                ledger.database,
                lambda: found.append(wrk.load(service.url, requests, connections=CLIENTS, seconds=seconds)),
            )
            service.settle()
            return found[0]

        at_rest = bench.load(service, requests)
        at_rest()  # to warm up
        pairs = [(at_rest(), beside_a_rebuild()) for _ in range(min(3, bench.rounds))]
    # Minutes each: none is thrown away for what the host took, as a short slice would be.
    found = Comparison([normal for normal, _ in pairs], [during for _, during in pairs])
    what = "authenticate, c32, while all views are rebuilt / else"
    yield found.row(what, at_least(0.6), is_refusal=STATUS[path] >= 400)
    p99s = [during.p99_ms / normal.p99_ms for normal, during in zip(found.floor, found.ours, strict=True)]
    yield Row(f"{what}, p99", p99s, at_most(2), p99_ms=median(during.p99_ms for during in found.ours))


def _rebuild(database: Database, meanwhile: Callable[[], object]) -> float:
    """Rebuild all views beside the service; how long that took in seconds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SCIM_LEDGER_")}
    environment = inherited | {"DATABASE_URL": database.app, "SCIM_LEDGER_PEPPER": PEPPER_KEY}
    began = time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "projections", "rebuild", "--all"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    meanwhile()
    assert process.wait() == 0
    taken_s = time.perf_counter() - began
    subprocess.run([COMMAND, "projections", "drop-old"], env=environment, check=True, capture_output=True)
    return taken_s

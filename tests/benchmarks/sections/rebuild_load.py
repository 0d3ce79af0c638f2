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
from tests.benchmarks.result import Row, at_least, at_most
from tests.benchmarks.sections.authenticate import STATUS, door
from tests.benchmarks.servers import PEPPER_KEY
from tests.benchmarks.store import Database

CLIENTS: Final = 32
COMMAND: Final = Path(sys.executable).with_name("scim-ledger")


def rebuild_load(bench: Bench) -> Iterator[Row]:
    """`scim-ledger projections rebuild --all` over a million events, one slice as long as it takes."""
    ledger = bench.million
    ratios, rates, p99s, during_p99s = [], [], [], []
    wrong = lost = 0
    with bench.service(ledger) as service:
        path = door(service, ledger)
        requests = bench.requests("GET", [path], ledger.tokens)
        normal_load = bench.load(service, requests)
        normal_load()
        lasts_s = _rebuild(ledger.database, normal_load)
        for _ in range(min(3, bench.rounds)):
            normal = normal_load()
            seconds = max(1, int(lasts_s))
            found: list[wrk.Slice] = []
            lasts_s = _rebuild(
                ledger.database,
                lambda: found.append(  # noqa: B023 - called before the next round
                    wrk.load(service.url, requests, connections=CLIENTS, seconds=seconds)  # noqa: B023
                ),
            )
            (during,) = found
            service.settle()
            ratios.append(during.rate / normal.rate)
            p99s.append(during.p99_ms / normal.p99_ms)
            rates.append(during.rate)
            during_p99s.append(during.p99_ms)
            wrong += normal.refused + during.refused if STATUS[path] < 400 else 0
            lost += normal.lost + during.lost
    note = f"UNEXPECTED: {wrong} refused, {lost} lost" if wrong or lost else ""
    what = "authenticate, c32, while all views are rebuilt / else"
    p99_ms, rate = median(during_p99s), median(rates)
    yield Row(what, ratios, at_least(0.6), p99_ms=p99_ms, rate=rate, note=note)
    yield Row(f"{what}, p99", p99s, at_most(2), p99_ms=p99_ms)


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

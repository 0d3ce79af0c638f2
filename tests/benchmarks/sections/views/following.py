"""Following: how long the views lag behind the ledger while the doors are as
busy as they can be.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import Final

from tests.benchmarks import wrk
from tests.benchmarks.bench import Bench, Ledger
from tests.benchmarks.result import Row, at_most
from tests.benchmarks.sections.authenticate import door
from tests.benchmarks.servers import Service

EVERY_S: Final = 0.05
CLIENTS: Final = 32


def following(bench: Bench) -> Iterator[Row]:
    """The lag that GET /projections tells every 50 ms, of the view that is furthest behind."""
    ledger = bench.small
    p99s, highest, rates = [], [], []
    with bench.service(ledger) as service:
        requests = bench.requests("GET", [door(service, ledger)], ledger.tokens)
        for _ in range(bench.rounds):
            lags: list[float] = []
            with _watched(service, ledger, lags):
                slice_ = wrk.load(service.url, requests, connections=CLIENTS, seconds=bench.seconds)
            service.settle()
            p99s.append(quantiles(lags, n=100, method="inclusive")[-1])
            highest.append(max(lags))
            rates.append(slice_.rate)
    rate = sorted(rates)[len(rates) // 2]
    yield Row("lag of the views under full load, p99", p99s, at_most(1), unit="s", rate=rate)
    yield Row("lag of the views under full load, highest", highest, unit="s", rate=rate)


@contextmanager
def _watched(service: Service, ledger: Ledger, lags: list[float]) -> Iterator[None]:
    """Fill `lags` for as long as the block takes."""
    stopping = threading.Event()
    token = ledger.api_token.reveal()

    def watch() -> None:
        due = time.monotonic()
        while not stopping.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + EVERY_S
            answer = service.get("/projections", token=token)
            assert answer.status == 200, answer
            lags.append(max(view["lag_s"] for view in json.loads(answer.body)["result"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stopping.set()
        watcher.join()
    assert len(lags) > 1, "nobody watched"

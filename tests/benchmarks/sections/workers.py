"""Two workers against one, on one ledger:
they share its cores, its database and the turn to commit.
"""

from collections.abc import Iterator

from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row, at_least
from tests.benchmarks.sections.authenticate import STATUS, door


def workers(bench: Bench) -> Iterator[Row]:
    """Tokens in turn at a door."""
    ledger = bench.small
    with bench.service(ledger) as one, bench.service(ledger, workers=2) as two:
        path = door(one, ledger)
        requests = bench.requests("GET", [path], ledger.tokens)
        for connections in (32, 64):
            found = compare(
                bench.load(one, requests, connections=connections),
                bench.load(two, requests, connections=connections),
                rounds=bench.rounds,
            )
            what = f"authenticate, c{connections}: two workers / one"
            yield found.row(what, at_least(1), is_refusal=STATUS[path] >= 400)

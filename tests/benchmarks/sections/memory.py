"""Memory of a worker: nothing of the ledger is kept in it, however big it is."""

from collections.abc import Iterator
from uuid import uuid4

from tests.benchmarks.bench import Bench, team_pages
from tests.benchmarks.result import Row, at_most
from tests.benchmarks.sections.authenticate import door
from tests.benchmarks.servers import pss_mib


def memory(bench: Bench) -> Iterator[Row]:
    """PSS of one worker after each round of uses, lists and creations on the big ledger."""
    ledger = bench.big
    api_token = ledger.api_token.reveal()
    with bench.service(ledger) as service:
        (worker,) = service.worker_pids()
        body = bench.file(f'{{"team_id": "{uuid4()}", "name": "Okta provisioning"}}')
        traffic = [
            bench.load(service, bench.requests("GET", [door(service, ledger)], ledger.tokens)),
            bench.load(
                service, bench.requests("GET", team_pages(ledger.seeded.team_ids), [api_token])
            ),
            bench.load(service, bench.requests("POST", ["/scim-token"], [api_token]), body=body),
        ]
        sizes = []
        for _ in range(bench.rounds):
            for send in traffic:
                send()
            sizes.append(pss_mib(worker))
    yield Row(f"memory of a worker, {bench.tokens:,} tokens", sizes, at_most(150), unit="MiB")

"""Creating tokens: how many share a commit, and how that compares with one insert a commit."""

from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import psycopg

from domain.scim_token.events import Created
from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row

_HEAD: Final = "SELECT max(notification_id) FROM ledger.events"
_BATCHES: Final = """
    SELECT count(*), count(DISTINCT xmin::text) FROM ledger.events WHERE notification_id > %s
        AND topic = %s
"""
"""Rows and the transactions that wrote them."""


def create(bench: Bench) -> Iterator[Row]:
    """POST /scim-token with 32 clients."""
    ledger = bench.small
    requests = bench.requests("POST", ["/scim-token"], [ledger.api_token.reveal()])
    body = bench.file(f'{{"team_id": "{uuid4()}", "name": "Okta provisioning"}}')
    with (
        bench.service(ledger) as service,
        psycopg.connect(ledger.database.app, autocommit=True) as connection,
    ):
        ours = bench.load(service, requests, body=body)
        head = connection.execute(_HEAD).fetchone()
        assert head is not None
        against_pgbench = compare(bench.commits(clients=32), ours, rounds=bench.rounds)
        yield against_pgbench.row("create / pgbench one insert per commit, 32 clients", None)
        batches = connection.execute(_BATCHES, [*head, Created.topic]).fetchone()
        assert batches is not None
        events, commits = batches
        yield Row("tokens created per commit of the gate", [events / commits], unit="")

"""Authenticating through nginx: what a whole request costs with the ledger as its auth service."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from math import nan
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row
from tests.gateways.programs import SEARCH_PATH, running_gateway

USERS: Final = "/scim/v2/Users"


def gateway(bench: Bench) -> Iterator[Row]:
    """The recipe of deploy/nginx: the ledger behind it, and an auth service that always says yes,
    in turn.
    """
    if shutil.which("nginx", path=SEARCH_PATH) is None:
        yield Row("nginx auth_request", [nan], note="nginx is not installed: apt-get install nginx")
        return
    with ExitStack() as stack:
        backend = stack.enter_context(bench.floor("floors:no_content"))
        yes = stack.enter_context(bench.floor("floors:always_yes"))
        service = stack.enter_context(bench.service(bench.small))
        before_yes, before_us = (
            stack.enter_context(running_gateway("nginx", ledger=auth.url, backend=backend.url))
            for auth in (yes, service)
        )
        distinct = f"{len(bench.small.tokens):,} tokens in turn"
        for connections in (32, 64):
            for what, tokens in (
                (distinct, bench.small.tokens),
                ("one hot token", bench.small.tokens[:1]),
            ):
                requests = bench.requests("GET", [USERS], tokens)
                found = compare(
                    bench.load(yes, requests, connections=connections, through=before_yes),
                    bench.load(service, requests, connections=connections, through=before_us),
                    rounds=bench.rounds,
                )
                yield found.row(f"nginx auth_request, c{connections}: {what} / always yes", None)

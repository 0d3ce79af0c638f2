"""The resource `/scim-token`: a creation, a page and a token, as shares of bare handlers."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tests.benchmarks.bench import Bench, team_pages
from tests.benchmarks.compare import compare
from tests.benchmarks.floors import PAGE_FILE, TOKEN_FILE
from tests.benchmarks.result import Row, at_least
from tests.benchmarks.servers import Server


def administration(bench: Bench) -> Iterator[Row]:
    """POST /scim-token, GET of a page of 100 of each team in turn, and GET of each token in turn;
    32 clients.
    """
    ledger = bench.small
    api_token = ledger.api_token.reveal()
    pages = team_pages(ledger.seeded.team_ids)
    tokens = [f"/scim-token/{token_id}" for token_id in ledger.seeded.token_ids]
    body = bench.file(f'{{"team_id": "{uuid4()}", "name": "Okta provisioning"}}')
    cases = (
        ("create / Litestar POST of the same JSON", 0.25, "POST", ["/scim-token"], body),
        ("page of 100 / Litestar GET of the same bytes", 0.3, "GET", pages, None),
        ("token / Litestar GET of the same bytes", 0.35, "GET", tokens, None),
    )
    with bench.service(ledger) as service:
        stored = {
            PAGE_FILE: str(_answer(bench, service, pages[0], api_token)),
            TOKEN_FILE: str(_answer(bench, service, tokens[0], api_token)),
        }
        with bench.floor("floors:administration", stored) as floor:
            for what, share, method, paths, sent in cases:
                requests = bench.requests(method, paths, [api_token])
                bare, ours = (bench.load(to, requests, body=sent) for to in (floor, service))
                yield compare(bare, ours, rounds=bench.rounds).row(what, at_least(share))


def _answer(bench: Bench, service: Server, path: str, api_token: str) -> Path:
    found = service.get(path, token=api_token)
    assert found.status == 200, found
    return bench.file(found.body.decode())

"""Listing tokens: a page costs the same in a big ledger."""

from collections.abc import Iterator
from dataclasses import replace

from tests.benchmarks.bench import Bench, team_pages
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row, at_most


def list_tokens(bench: Bench) -> Iterator[Row]:
    """GET /scim-token?team_id=…&limit=100, every team in turn, 32 clients."""
    pages, big_pages = (
        bench.requests("GET", team_pages(ledger.seeded.team_ids), [ledger.api_token.reveal()])
        for ledger in (bench.small, bench.big)
    )
    with bench.service(bench.small) as small, bench.service(bench.big) as big:
        found = compare(bench.load(small, pages), bench.load(big, big_pages), rounds=bench.rounds)
        growth = found.row(f"list: cost with {bench.tokens:,} tokens / with 10,000", at_most(1.5))
        yield replace(growth, values=[1 / ratio for ratio in found.ratios])

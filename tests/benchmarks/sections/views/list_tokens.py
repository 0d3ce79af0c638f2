"""Listing tokens: what a page costs, and that it costs the same in a big ledger."""

from collections.abc import Iterator
from dataclasses import replace

from tests.benchmarks.bench import Bench, team_pages
from tests.benchmarks.compare import compare
from tests.benchmarks.floors import PAGE_FILE
from tests.benchmarks.result import Row, at_least, at_most


def list_tokens(bench: Bench) -> Iterator[Row]:
    """GET /scim-token?team_id=…&limit=100, every team in turn, 32 clients."""
    pages, big_pages = (
        bench.requests("GET", team_pages(ledger.seeded.team_ids), [ledger.api_token.reveal()])
        for ledger in (bench.small, bench.big)
    )
    with bench.service(bench.small) as small, bench.service(bench.big) as big:
        token, team_ids = bench.small.api_token.reveal(), bench.small.seeded.team_ids
        page = small.get(team_pages(team_ids)[0], token=token)
        assert page.status == 200, page
        with bench.floor("floors:page", {PAGE_FILE: str(bench.file(page.body.decode()))}) as floor:
            of_small = bench.load(small, pages)
            found = compare(bench.load(floor, pages), of_small, rounds=bench.rounds)
            yield found.row(
                f"list / Litestar GET of the same {len(page.body):,} bytes", at_least(0.3)
            )
        found = compare(of_small, bench.load(big, big_pages), rounds=bench.rounds)
        growth = found.row(f"list: cost with {bench.tokens:,} tokens / with 10,000", at_most(1.5))
        yield replace(growth, values=[1 / ratio for ratio in found.ratios])

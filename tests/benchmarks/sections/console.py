"""The console: when a browser paints its pages first, and that the ledger's size is not felt."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from statistics import median

from playwright.sync_api import Page

from tests.benchmarks.bench import Bench, Ledger
from tests.benchmarks.result import Row, at_most
from tests.benchmarks.servers import Server
from tests.console.browser.chromium import first_paint_ms, sign_in, started
from tests.console.browser.static_copy import static_copy
from tests.console.browsing import Visitor

LIST = "/console/tokens"
PAINT_MAX_MS = 300
STATIC_MAX = 2.5
SLOWER_MAX = 1.5
ANSWERS = 20
"""Of the list, in one round."""


def console(bench: Bench) -> Iterator[Row]:
    """Pages of the big ledger in Chromium; its list beside that of the small one, and beside a
    copy that a server only sends.
    """
    ledgers = bench.small, bench.big
    one = f"{LIST}/{bench.big.seeded.token_ids[0]}"
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.service(ledger)) for ledger in ledgers]
        few, many = (
            stack.enter_context(visiting(server, ledger))
            for server, ledger in zip(servers, ledgers, strict=True)
        )
        yield answered(bench, few, many)
        copy = stack.enter_context(static_copy(many.see(LIST), many))
        browser = stack.enter_context(started())
        static, *pages = (
            browser.new_context(base_url=url).new_page()
            for url in (copy, *(server.url for server in servers))
        )
        for page, ledger in zip(pages, ledgers, strict=True):
            sign_in(page, ledger.api_token.reveal())
        yield from beside(bench, static, *pages)
        for path in (one, "/console/audit", "/console/api-tokens", "/console/system"):
            yield painted(bench, pages[1], path, path.replace(one, f"{LIST}/{{id}}"))


def visiting(server: Server, ledger: Ledger) -> Visitor:
    """Somebody who is signed in."""
    visitor = Visitor(server.url)
    visitor.sign_in(ledger.api_token.reveal())
    return visitor


def answered(bench: Bench, few: Visitor, many: Visitor) -> Row:
    """What the list of the big ledger takes, in that of the small one."""
    values = [answer_ms(many) / answer_ms(few) for _ in range(bench.rounds + 1)][1:]
    note = f"answered in {answer_ms(many):.0f} ms"
    return Row(f"answer with {LIST}: {sizes(bench)}", values, at_most(SLOWER_MAX), note=note)


def answer_ms(visitor: Visitor) -> float:
    """The median of some answers with the list."""
    instants = [time.perf_counter()]
    for _ in range(ANSWERS):
        assert visitor.see(LIST).status_code == 200
        instants.append(time.perf_counter())
    return median(after - before for before, after in pairwise(instants)) * 1000


def painted(bench: Bench, page: Page, path: str, name: str) -> Row:
    """The first paint of a page, by round, after one that is not counted."""
    first_paint_ms(page, path)
    values = [first_paint_ms(page, path) for _ in range(bench.rounds)]
    return Row(f"first paint of {name}", values, at_most(PAINT_MAX_MS), unit="ms")


def beside(bench: Bench, static: Page, few: Page, many: Page) -> Iterator[Row]:
    """The list in turn with its copy, and with the same of the small ledger."""
    paints = [
        [first_paint_ms(page, LIST) for page in (static, few, many)]
        for _ in range(bench.rounds + 1)
    ][1:]
    floors, _, ours = zip(*paints, strict=True)
    yield Row(f"first paint of {LIST}", ours, at_most(PAINT_MAX_MS), unit="ms")
    yield Row(f"first paint of a static copy of {LIST}", floors, unit="ms")
    to_static = [big / floor for floor, _, big in paints]
    yield Row(f"first paint of {LIST} / of its static copy", to_static, at_most(STATIC_MAX))
    to_few = [big / small for _, small, big in paints]
    yield Row(f"first paint of {LIST}: {sizes(bench)}", to_few, at_most(SLOWER_MAX))


def sizes(bench: Bench) -> str:
    return f"{bench.tokens:,} tokens / 10,000"

"""Authenticating: the main one. Each yes stands for a use that was durably written."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from domain.secret import SecretKind, mint
from tests.benchmarks import naive
from tests.benchmarks.bench import SMALL, Bench, Ledger
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row, Target, at_least, at_most
from tests.benchmarks.servers import Server

FORWARD: Final = "/gateway/forward"
SCIM: Final = "/scim/v2/Users"
"""Answers 501 after it let somebody in, for as long as no SCIM service stands behind it."""
STATUS: Final = {FORWARD: 200, SCIM: 501}
HOT_USES: Final = 1000
"""What the hot token of the naive way was used before:
every use makes each later one slower there.
"""


@dataclass(frozen=True)
class Case:
    """tokens: presented in turn. status: of every answer."""

    what: str
    tokens: Sequence[str]
    status: int
    target: Target
    connections: int = 32
    p99_ms: float | None = None


def authenticate(bench: Bench) -> Iterator[Row]:
    """Tokens at a door, as a share of Litestar answering 204 to the same requests."""
    with bench.service(bench.small) as service:
        path = door(service, bench.small)
        with bench.floor("floors:no_content") as floor:
            for case in cases(bench.small.tokens, STATUS[path]):
                yield from _against_floor(bench, floor, service, path, case)
        yield from _against_pgbench(bench, service, path)
        yield from _against_naive(bench, service, path)
    if bench.is_large:
        yield from _against_fresh(bench, path)


def door(service: Server, ledger: Ledger) -> str:
    """The door to knock at: the one that gateways use, where there is one."""
    return (
        FORWARD if service.get(FORWARD, token=ledger.tokens[0]).status == STATUS[FORWARD] else SCIM
    )


def cases(tokens: Sequence[str], yes: int) -> Iterator[Case]:
    hot, distinct = tokens[:1], f"{len(tokens):,} tokens in turn"
    unknown = [mint(SecretKind.SCIM_LIVE, os.urandom(32)).reveal() for _ in range(1000)]
    garbage = [
        text
        for secret in unknown
        for text in (secret[:30], secret[:-1] + "-", _with_other_checksum(secret))
    ]
    yield Case(distinct, tokens, yes, at_least(0.45), p99_ms=15)
    yield Case(distinct, tokens, yes, at_least(0.45), connections=64)
    yield Case("one hot token", hot, yes, at_least(0.55), p99_ms=15)
    yield Case("one hot token", hot, yes, at_least(0.55), connections=64)
    yield Case("garbage (length, alphabet, checksum)", garbage, 401, at_least(1.0))
    yield Case("well-formed, but unknown", unknown, 401, at_least(0.5))


def _against_floor(
    bench: Bench, floor: Server, service: Server, path: str, case: Case
) -> Iterator[Row]:
    what = f"authenticate, c{case.connections}: {case.what}"
    assert service.get(path, token=case.tokens[0]).status == case.status, what
    requests = bench.requests("GET", [path], case.tokens)
    found = compare(
        bench.load(floor, requests, connections=case.connections),
        bench.load(service, requests, connections=case.connections),
        rounds=bench.rounds,
    )
    yield found.row(what, case.target, is_refusal=case.status >= 400)
    if case.p99_ms is not None:
        yield found.p99_row(f"{what}, p99", at_most(case.p99_ms))


def _against_pgbench(bench: Bench, service: Server, path: str) -> Iterator[Row]:
    requests = bench.requests("GET", [path], bench.small.tokens)
    found = compare(bench.commits(clients=32), bench.load(service, requests), rounds=bench.rounds)
    what = "authenticate / pgbench one insert per commit, 32 clients"
    yield found.row(what, None, is_refusal=STATUS[path] >= 400)


def _against_naive(bench: Bench, service: Server, path: str) -> Iterator[Row]:
    conninfo = bench.store.create_empty("naive")
    hot = mint(SecretKind.SCIM_LIVE, os.urandom(32))
    naive.seed(conninfo, bench.small.seeded.secrets, hot=hot, hot_uses=HOT_USES)
    with bench.floor("naive:create_app", naive.environment(conninfo)) as floor:
        # One client of the hot one: with more it answers less, because all but one of them load in
        # vain.
        for what, theirs, clients, tokens, target in (
            ("tokens in turn", bench.small.tokens, 32, bench.small.tokens, at_least(15)),
            (
                f"one hot token of {HOT_USES:,} uses",
                [hot.reveal()],
                1,
                bench.small.tokens[:1],
                at_least(300),
            ),
        ):
            found = compare(
                bench.load(floor, bench.requests("GET", [path], theirs), connections=clients),
                bench.load(service, bench.requests("GET", [path], tokens)),
                rounds=bench.rounds,
            )
            yield found.row(
                f"authenticate / the naive way: {what}", target, is_refusal=STATUS[path] >= 400
            )


def _against_fresh(bench: Bench, path: str) -> Iterator[Row]:
    fresh, big = bench.new_ledger("fresh", tokens=SMALL), bench.big
    with bench.service(fresh) as of_fresh, bench.service(big) as of_big:
        found = compare(
            bench.load(of_fresh, bench.requests("GET", [path], fresh.tokens)),
            bench.load(of_big, bench.requests("GET", [path], big.tokens)),
            rounds=bench.rounds,
        )
        what = f"authenticate: {big.seeded.events:,} events of {bench.tokens:,} tokens / fresh"
        yield found.row(what, at_least(0.9), is_refusal=STATUS[path] >= 400)


def _with_other_checksum(secret: str) -> str:
    return secret[:-1] + ("0" if secret[-1] != "0" else "1")

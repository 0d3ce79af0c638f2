"""Loading an aggregate to decide: the same with a million events behind it as with two."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median
from typing import Final
from uuid import UUID

from domain.authority import Operator
from domain.errors import InvalidValue
from domain.ledger import TokenLedger
from tests.benchmarks import seed
from tests.benchmarks.bench import PEPPER, Bench
from tests.benchmarks.result import Row, at_most
from tests.benchmarks.seed import CLOCK_AND_IDS

_TOO_LONG: Final = timedelta(days=365)


def load(bench: Bench) -> Iterator[Row]:
    """A rotation that its rule refuses: lock, read the state, decide, commit nothing.

    One client.
    """
    database = bench.store.create("load")
    worn = seed.seed(database.owner, pepper=PEPPER, tokens=1, uses_each=bench.tokens)
    fresh = seed.seed(database.owner, pepper=PEPPER, tokens=1, uses_each=1)

    async def rounds() -> list[float]:
        async with TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS) as ledger:
            ids = (worn.token_ids[0], fresh.token_ids[0])
            return [await _ratio(ledger, *ids, for_s=bench.seconds) for _ in range(bench.rounds)]

    yield Row(
        f"load and decide: time with {bench.tokens:,} uses / with one",
        asyncio.run(rounds()),
        at_most(1.2),
    )


async def _ratio(ledger: TokenLedger, worn: UUID, fresh: UUID, *, for_s: float) -> float:
    """Median time of a decision on one token over that on the other, decided in turn."""
    taken: dict[UUID, list[float]] = {worn: [], fresh: []}
    deadline = time.perf_counter() + for_s
    while time.perf_counter() < deadline:
        for token_id, times in taken.items():
            times.append(await _decision_s(ledger, token_id))
    return median(taken[worn]) / median(taken[fresh])


async def _decision_s(ledger: TokenLedger, token_id: UUID) -> float:
    started = time.perf_counter()
    try:
        await ledger.rotate_scim_token(token_id, overlap=_TOO_LONG, by=Operator())
    except InvalidValue:
        return time.perf_counter() - started
    raise AssertionError("the rule should refuse this")

"""Eight clients of two services on one ledger:
every history of a token has an order that explains it.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product, takewhile
from random import Random, randrange
from typing import Final

import pytest

from tests.caching_front import caching_fronts
from tests.linearizability.checker import Operation, is_linearizable
from tests.linearizability.clients import CLIENTS, Crowd, Plan, Step, described, plan
from tests.linearizability.token_model import ABSENT, AUTHENTICATE, BURN, CREATE, REVOKE, step
from tests.raw_http import run
from tests.service import RunningService

HISTORIES: Final = 200
"""Of one token each: that is what is checked at once."""
History = Sequence[Operation]


class NotLinearizable(AssertionError):
    """No order explains what the clients of a token saw."""


@dataclass(frozen=True)
class Pair:
    """Two services of one ledger, by their addresses, and an API token for both."""

    urls: Sequence[str]
    api_token: str


@pytest.fixture(scope="module")
def pair(two_services: tuple[RunningService, RunningService]) -> Pair:
    one, other = two_services
    return Pair([one.url, other.url], one.api_token().secret)


async def checked(crowd: Crowd, steps: Plan, *, told: str) -> list[History]:
    """Carry out a plan; what was seen of each token. Raises NotLinearizable, with `told`."""
    histories: list[History] = [*await crowd.history(steps)]
    for history in histories:
        if not is_linearizable(history, step, ABSENT):
            raise NotLinearizable("\n".join([told, *described(history)]))
    return histories


def random_histories(pair: Pair, *, seed: int, count: int) -> list[History]:
    """Check the histories of so many tokens, by random plans."""
    histories: list[History] = []

    async def main() -> None:
        async with Crowd(pair.urls, pair.api_token) as crowd:
            for number in takewhile(lambda _: len(histories) < count, itertools.count(seed)):
                histories.extend(await checked(crowd, plan(Random(number)), told=f"seed {number}"))

    run(main)
    return histories


def assert_worth_checking(histories: Sequence[History]) -> None:
    """Every kind of answer was given, many uses overlap the end of their token,
    and some answers were lost.

    Histories of one operation after the other would be linearizable whatever the services did.
    """
    answers = Counter(
        (operation.kind, operation.answer) for history in histories for operation in history
    )
    expected = [
        *product([AUTHENTICATE], ["yes", "no", "revoked"]),
        *product([CREATE], ["created", "exists"]),
        *product([REVOKE, BURN], ["done", None]),
    ]
    assert all(answers[each] > len(histories) / 30 for each in expected), answers
    assert sum(map(is_contended, histories)) > len(histories) / 3
    unavailable = answers[AUTHENTICATE, None]
    assert unavailable < sum(answers.values()) / 10, "too busy a machine to tell anything"


def is_contended(history: History) -> bool:
    """Whether yes and no were told to uses that overlapped a revocation:
    there order is not given by time.
    """
    ends = [operation for operation in history if operation.kind in {REVOKE, BURN}]
    return {"yes", "no"} <= {
        "yes" if use.answer == "yes" else "no"
        for use in history
        if use.kind == AUTHENTICATE and any(_overlap(use, end) for end in ends)
    }


def _overlap(one: Operation, other: Operation) -> bool:
    return one.invoked_at <= other.answered_at and other.invoked_at <= one.answered_at


def test_every_history_is_linearizable(pair: Pair) -> None:
    assert_worth_checking(random_histories(pair, seed=1, count=HISTORIES))


@pytest.mark.slow
def test_every_history_is_linearizable_thousands_of_times(pair: Pair) -> None:
    assert_worth_checking(random_histories(pair, seed=randrange(2**32), count=5000))


USED_REVOKED_USED: Final[Plan] = [
    [Step(CREATE, 0), Step(AUTHENTICATE, 0), Step(REVOKE, 0), Step(AUTHENTICATE, 0)],
    *([] for _ in range(CLIENTS - 1)),
]
"""Within a few milliseconds: what was remembered of the first use is remembered at the second."""


def through_a_cache(pair: Pair, plans: Sequence[Plan], *, cached_for_s: float) -> int:
    """Check plans whose clients come through fronts that remember good answers;
    how often they did.
    """

    async def main() -> int:
        async with caching_fronts(pair.urls, cached_for_s=cached_for_s) as (urls, fronts):
            async with Crowd(urls, pair.api_token) as crowd:
                for number, steps in enumerate(plans):
                    await checked(crowd, steps, told=f"history {number}")
            return sum(front.given_again for front in fronts)

    return run(main)


def test_a_cache_of_good_answers_would_be_found_by_the_first_history(pair: Pair) -> None:
    with pytest.raises(NotLinearizable, match=r"revoke +done\n.*authenticate +yes$"):
        through_a_cache(pair, [USED_REVOKED_USED], cached_for_s=0.2)


def test_a_cache_of_good_answers_would_be_found_by_the_random_histories(pair: Pair) -> None:
    with pytest.raises(NotLinearizable):
        through_a_cache(pair, [plan(Random(seed)) for seed in range(30)], cached_for_s=0.2)


def test_a_front_that_remembers_nothing_is_not_blamed(pair: Pair) -> None:
    """What is found through the caching fronts is the cache, not the front."""
    plans = [USED_REVOKED_USED, *(plan(Random(seed)) for seed in range(5))]
    assert through_a_cache(pair, plans, cached_for_s=0) == 0

"""Eight clients of two services on one ledger:
every history of a token has an order that explains it.
"""

import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import product, takewhile
from math import inf
from random import Random, randrange
from time import monotonic
from typing import Final

import psycopg
import pytest

from domain.event import Event
from domain.scim_token.events import RotationFinished
from domain.scim_token.rotation import SecretsInUse
from domain.scim_token.token import ScimToken
from domain.secret import Pepper
from projections.warnings.teller import Teller
from tests.conftest import CLOCK_AND_IDS, Database
from tests.linearizability.caching_front import caching_fronts
from tests.linearizability.checker import Operation, is_linearizable
from tests.linearizability.clients import Crowd, described
from tests.linearizability.finisher import Decide, Finisher, by_the_rule
from tests.linearizability.plans import AWAIT_END, CLIENTS, Plan, Step, plan
from tests.linearizability.token_model import (
    ABSENT,
    AUTHENTICATE,
    BURN,
    CANCEL,
    COMPLETE,
    CREATE,
    END,
    FINISH,
    LIMIT,
    LIST,
    RENAME,
    RESTRICT,
    RESUME,
    REVOKE,
    ROTATE,
    ROTATE_AT_ONCE,
    SUSPEND,
    UNLIMIT,
    WIDEN,
    step,
)
from tests.raw_http import run
from tests.service import PEPPER_KEY, RunningService

HISTORIES: Final = 60
MORE: Final = 300
"""Of one token each: that is what is checked at once."""
History = Sequence[Operation]


class NotLinearizable(AssertionError):
    """No order explains what the clients of a token saw."""


@dataclass(frozen=True)
class Pair:
    """Two services of one ledger, by their addresses, and an API token for both.

    database: of the ledger.
    """

    urls: Sequence[str]
    api_token: str
    database: Database

    @asynccontextmanager
    async def crowd(
        self, *, urls: Sequence[str] = (), decide: Decide = by_the_rule
    ) -> AsyncIterator[Crowd]:
        """Eight clients of both. urls: of fronts instead. decide: how rotations are finished."""
        pepper = Pepper([PEPPER_KEY.encode()])
        async with Teller(self.database.app, CLOCK_AND_IDS) as teller:
            finisher = Finisher(teller.warner, pepper, decide=decide)
            async with Crowd(urls or self.urls, self.api_token, finisher) as crowd:
                yield crowd


@pytest.fixture(scope="module")
def pair(two_services: tuple[RunningService, RunningService]) -> Pair:
    one, other = two_services
    return Pair([one.url, other.url], one.api_token().secret, one.database)


async def checked(crowd: Crowd, steps: Plan, *, told: str) -> list[History]:
    """Carry out a plan; what was seen of each token. Raises NotLinearizable, with `told`."""
    histories: list[History] = [*await crowd.history(steps)]
    for history in histories:
        if not is_linearizable(history, step, ABSENT):
            raise NotLinearizable("\n".join([told, *described(history)]))
    return histories


def random_histories(pair: Pair, *, seed: int, count: int, seconds: float = inf) -> list[History]:
    """Check the histories of so many tokens, by random plans; of fewer when the time is over."""
    histories: list[History] = []
    until = monotonic() + seconds

    def is_more(_: int) -> bool:
        return len(histories) < count and monotonic() < until

    async def main() -> None:
        async with pair.crowd() as crowd:
            for number in takewhile(is_more, itertools.count(seed)):
                histories.extend(await checked(crowd, plan(Random(number)), told=f"seed {number}"))

    run(main)
    return histories


RARE_AMONG: Final = 3000
"""In so many histories every kind of answer is given."""


def assert_worth_checking(histories: Sequence[History]) -> None:
    """Every kind of answer was given, many uses overlap the end of their token,
    and some answers were lost.

    Histories of one operation after the other would be linearizable whatever the services did.
    """
    answers = Counter(
        (operation.kind, operation.answer) for history in histories for operation in history
    )
    often = [
        *product([AUTHENTICATE], ["yes", "no", "revoked"]),
        *product([CREATE], ["created", "exists"]),
        *product([REVOKE, BURN], ["done", None]),
    ]
    assert all(answers[each] > len(histories) / 30 for each in often), answers
    at_times = [
        *product([AUTHENTICATE], ["suspended", "expired", "network"]),
        *product([SUSPEND, RESUME, RESTRICT, WIDEN, RENAME, LIMIT, UNLIMIT], ["done"]),
        *product([RENAME, UNLIMIT], ["expired", "missing"]),
        *product([ROTATE], ["rotated", "too soon", "missing"]),
        *product([ROTATE_AT_ONCE], ["rotated"]),
        *product([COMPLETE, CANCEL], ["done", "not underway", "missing"]),
        *product([FINISH], ["finished", "silent"]),
        *product([LIST], ["older", "newer", "older newer", "none"]),
        *product([END], ["came"]),
    ]
    missing = [each for each in at_times if not answers[each]]
    # Rare ones, such as a change that comes between an end and its revocation, need more histories.
    allowed = 0 if len(histories) >= RARE_AMONG else 3 if len(histories) >= MORE else 8
    assert len(missing) <= allowed, (missing, answers)
    share = 3 if len(histories) >= MORE else 5
    assert sum(map(is_contended, histories)) > len(histories) / share
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


@pytest.mark.long
def test_every_history_is_linearizable_hundreds_of_times(pair: Pair) -> None:
    assert_worth_checking(random_histories(pair, seed=1, count=MORE))


@pytest.mark.slow
def test_every_history_is_linearizable_thousands_of_times(pair: Pair) -> None:
    """LEDGER_HISTORIES says how many, LEDGER_HISTORIES_FOR_S how long at most."""
    histories = random_histories(
        pair,
        seed=randrange(2**32),
        count=int(os.environ.get("LEDGER_HISTORIES", "10000")),
        seconds=float(os.environ.get("LEDGER_HISTORIES_FOR_S", "inf")),
    )
    assert_worth_checking(histories)
    operations = sum(map(len, histories))
    print(f"{len(histories)} histories of {operations} operations, and an order for each")


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
            async with pair.crowd(urls=urls) as crowd:
                for number, steps in enumerate(plans):
                    await checked(crowd, steps, told=f"history {number}")
            return sum(front.given_again for front in fronts)

    return run(main)


def test_a_cache_of_good_answers_would_be_found_by_the_first_history(pair: Pair) -> None:
    with pytest.raises(NotLinearizable, match=r"revoke 0 +done\n.*authenticate 0 +yes"):
        through_a_cache(pair, [USED_REVOKED_USED], cached_for_s=0.2)


def test_a_cache_of_good_answers_would_be_found_by_the_random_histories(pair: Pair) -> None:
    with pytest.raises(NotLinearizable):
        through_a_cache(pair, [plan(Random(seed)) for seed in range(30)], cached_for_s=0.2)


def test_a_front_that_remembers_nothing_is_not_blamed(pair: Pair) -> None:
    """What is found through the caching fronts is the cache, not the front."""
    plans = [USED_REVOKED_USED, *(plan(Random(seed)) for seed in range(5))]
    assert through_a_cache(pair, plans, cached_for_s=0) == 0


# Planted bugs: what the histories are for


def alone(*steps: Step) -> Plan:
    """One client does it all, the others nothing."""
    return [steps, *([] for _ in range(CLIENTS - 1))]


def carry_out(pair: Pair, plans: Sequence[Plan], *, decide: Decide = by_the_rule) -> None:
    async def main() -> None:
        async with pair.crowd(decide=decide) as crowd:
            for number, steps in enumerate(plans):
                await checked(crowd, steps, told=f"history {number}")

    run(main)


@contextmanager
def planted(pair: Pair, condition: str) -> Iterator[None]:
    """Secrets whose rows are left as they were where the condition holds."""
    with psycopg.connect(pair.database.owner, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION ledger.planted() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN old; END'"
        )
        owner.execute(
            "CREATE TRIGGER planted BEFORE UPDATE ON ledger.secrets FOR EACH ROW "
            f"WHEN ({condition}) EXECUTE FUNCTION ledger.planted()".encode()
        )
        try:
            yield
        finally:
            owner.execute("DROP FUNCTION ledger.planted CASCADE")


_NEWER: Final = Step(AUTHENTICATE, 0, is_newer=True)
_ENDS_NOW: Final = "new.good_until BETWEEN now() - interval '1 minute' AND now()"
PLANTED: Final = {
    "a cancel leaves the newer secret good": (
        f"old.good_until = 'infinity' AND {_ENDS_NOW}",
        alone(Step(CREATE, 0), Step(ROTATE, 0), Step(CANCEL, 0), _NEWER),
    ),
    "a complete leaves the older secret good": (
        f"old.good_until > now() AND old.good_until < 'infinity' AND {_ENDS_NOW}",
        alone(Step(CREATE, 0), Step(ROTATE, 0), Step(COMPLETE, 0), Step(AUTHENTICATE, 0)),
    ),
    "a restriction is not that of the secrets": (
        "new.networks IS NOT NULL",
        alone(Step(CREATE, 0), Step(RESTRICT, 0), Step(AUTHENTICATE, 0)),
    ),
    "a new end is not that of the secrets": (
        "new.good_until BETWEEN now() AND now() + interval '1 minute'",
        alone(Step(CREATE, 0), Step(LIMIT, 0), Step(AWAIT_END, 0), Step(AUTHENTICATE, 0)),
    ),
}
"""By what they do: which rows are left alone, and the shortest plan that shows it."""


@pytest.mark.parametrize(("condition", "steps"), PLANTED.values(), ids=PLANTED)
def test_a_planted_bug_is_found(pair: Pair, condition: str, steps: Plan) -> None:
    carry_out(pair, [steps])
    with planted(pair, condition), pytest.raises(NotLinearizable):
        carry_out(pair, [steps] * 10)  # on a busy machine an end is at times asked for too late


@pytest.mark.long
@pytest.mark.parametrize(("condition", "steps"), PLANTED.values(), ids=PLANTED)
def test_a_planted_bug_is_found_by_the_random_histories(
    pair: Pair, condition: str, steps: Plan
) -> None:
    del steps
    with planted(pair, condition), pytest.raises(NotLinearizable):
        carry_out(pair, [plan(Random(seed)) for seed in range(200)])


@pytest.mark.long
def test_a_finish_that_happens_twice_would_be_found(pair: Pair) -> None:
    def again(token: ScimToken, _: SecretsInUse, __: datetime) -> Sequence[Event]:
        return [RotationFinished(secret=token.secrets[0].id, cause="silent")]

    twice = alone(Step(CREATE, 0), Step(ROTATE, 0), Step(FINISH, 0), Step(FINISH, 0))
    carry_out(pair, [twice])
    with pytest.raises(NotLinearizable, match=r"(finish 1 +finished\n.*){2}"):
        carry_out(pair, [twice], decide=again)

"""Whatever tokens were used and refused, and when: each question is answered with the sums of what
its own token's events say, and with nothing of the tokens beside it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.event import Event
from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Refused, Used
from domain.secret import Digest
from projections.described import rfc3339
from projections.usage.queries import STEPS, UsageQueries, UsageStep
from tests.conftest import Database, new_database
from tests.domain.scenario import ADA, MILLISECOND, TEAM_ID
from tests.projections.history import Fact, given

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
MIDNIGHT: Final = datetime.fromisoformat("2021-08-10T00:00:00Z")
TOKENS: Final = tuple(UUID(int=number) for number in (255, 256, 257, 2**128 - 1))
"""Neighbours, and the last that there can be."""
SECRETS: Final = ("00000000", "5e1f09ab", "ffffffff", None)
SOURCES: Final = ("10.0.2.1", "20.0.2.1", "2001:db8::1", None)


class Presented(msgspec.Struct, frozen=True):
    """count: of uses; 0 of a refusal."""

    token: int
    secret: str | None
    source: str | None
    at: datetime
    count: int


INSTANTS: Final = st.builds(
    lambda hours, more: MIDNIGHT + hours * HOUR + more,
    st.integers(0, 49),
    st.sampled_from([timedelta(0), MILLISECOND, HOUR - MILLISECOND]),
)
ALL: Final = st.lists(
    st.builds(
        Presented,
        token=st.integers(0, len(TOKENS) - 1),
        secret=st.sampled_from(SECRETS),
        source=st.sampled_from(SOURCES),
        at=INSTANTS,
        count=st.integers(0, 3),
    ),
    max_size=25,
)


def facts(all_: Sequence[Presented]) -> list[Fact]:
    found: list[Fact] = [
        (id_, Created(TEAM_ID, "Okta", ADA, Digest(sha256(id_.bytes).digest(), 1), None), MIDNIGHT)
        for id_ in TOKENS
    ]
    for each in sorted(all_, key=lambda each: each.at):
        how = Presentation(door="scim", source=each.source)
        event: Event = Refused("revoked", how, each.secret)
        if each.count:
            event = Used(each.count, each.at, how, each.secret)
        found.append((TOKENS[each.token], event, each.at))
    return found


def step_of(mine: Sequence[Presented], start: datetime, end: datetime) -> UsageStep:
    here = [each for each in mine if start <= each.at < end]
    return UsageStep(
        rfc3339(start),
        sum(each.count for each in here),
        sum(not each.count for each in here),
        len({each.source for each in here} - {None}),
    )


async def check(
    database: Database, all_: Sequence[Presented], from_at: datetime, to_at: datetime
) -> None:
    pool = ReadPool(database.app, timeout_s=10)
    queries = UsageQueries(pool)
    # told by whole hours: of the one that `to_at` is in, all
    end = MIDNIGHT - (MIDNIGHT - to_at) // HOUR * HOUR
    try:
        for number, token_id in enumerate(TOKENS):
            mine = [each for each in all_ if each.token == number]
            for step in STEPS.values():
                start = MIDNIGHT + (from_at - MIDNIGHT) // step * step
                starts = [start + place * step for place in range(-((start - to_at) // step))]
                expected = [step_of(mine, at, min(at + step, end)) for at in starts]
                found = await queries.steps(
                    token_id, from_at=from_at, to_at=to_at, step=step, ledger_head=0
                )
                assert found == expected, (number, step)
        today = MIDNIGHT + (to_at - MIDNIGHT) // DAY * DAY
        days = await queries.days(TOKENS, days=2, to_at=to_at, ledger_head=0)
        for number, token_id in enumerate(TOKENS):
            mine = [each for each in all_ if each.token == number]
            counted = [step_of(mine, at, min(at + DAY, end)).uses for at in (today - DAY, today)]
            assert list(days[token_id]) == counted, number
    finally:
        await pool.close()


AT_ITS_BOUNDS: Final = [
    Presented(token, secret, None, MIDNIGHT + at, 1)
    for token in (0, 2, 3)
    for secret in SECRETS
    for at in (HOUR - MILLISECOND, HOUR, 2 * HOUR - MILLISECOND, 2 * HOUR)
]


@settings(max_examples=5)
@example(AT_ITS_BOUNDS, 1, 1, 5000)
@given_any(
    all_=ALL, begins=st.integers(0, 49), lasts=st.integers(0, 49), batch=st.sampled_from([2, 5000])
)
def test_each_answer_is_the_sum_of_its_own_events(
    server: str, all_: list[Presented], begins: int, lasts: int, batch: int
) -> None:
    from_at = MIDNIGHT + begins * HOUR
    with new_database(server) as database:
        given(database, *facts(all_), batch=batch)
        for later in (timedelta(0), MILLISECOND):
            asyncio.run(check(database, all_, from_at + later, from_at + later + lasts * HOUR))

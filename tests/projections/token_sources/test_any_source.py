"""Whoever used tokens from wherever, and whatever was told of it: each address of a token is known
once, and those tokens have a new one that have.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.event import Event
from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Used
from domain.scim_token.warnings import FirstUsed, UsedFromNewSource
from domain.secret import Digest
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from projections.token_sources import view as token_sources
from projections.token_sources.view import FEW, PROJECTION, token_and_address
from tests.conftest import Database, new_database
from tests.domain.scenario import ADA, MILLISECOND, MINUTE, T0, TEAM_ID
from tests.projections.history import Fact, given, rows

TOKENS: Final = tuple(UUID(int=number) for number in (255, 256, 257, 2**128 - 1))
"""Neighbours, and the last that there can be."""
SOURCES: Final = ("192.0.2.1", "192.0.2.10", "2001:DB8::1", "2001:db8:0::1", None)
"""One of them in two spellings."""
SPELLED: Final = {"2001:DB8::1": "2001:db8::1", "2001:db8:0::1": "2001:db8::1"}


class Step(msgspec.Struct, frozen=True):
    """event: the id of the secret, or the warning that a release told of it."""

    token: int
    source: str | None
    event: str | None
    later: timedelta


STEPS: Final = st.lists(
    st.builds(
        Step,
        token=st.integers(0, len(TOKENS) - 1),
        source=st.sampled_from(SOURCES),
        event=st.sampled_from(["5e1f09ab", "5e1f09ab", None, "first", "new"]),
        later=st.sampled_from([timedelta(0), MILLISECOND, MINUTE]),
    ),
    max_size=20,
)


def spelled(source: str | None) -> str:
    """As the view has it: empty where it is not known."""
    return "" if source is None else SPELLED.get(source, source)


def facts(steps: Sequence[Step]) -> list[Fact]:
    at = T0
    found: list[Fact] = [
        (id_, Created(TEAM_ID, "Okta", ADA, Digest(sha256(id_.bytes).digest(), 1), None), T0)
        for id_ in TOKENS
    ]
    for step in steps:
        at += step.later
        event: Event
        told = spelled(step.source) or None  # a warning is told of a row
        if step.event == "first":
            event = FirstUsed(told)
        elif step.event == "new":
            event = UsedFromNewSource(told)
        else:
            event = Used(1, at, Presentation("scim", source=step.source), step.event)
        found.append((TOKENS[step.token], event, at))
    return found


def known(history: Sequence[Fact]) -> dict[tuple[UUID, str], list[Any]]:
    """Since when each address of each token is known, whether that is news, and how often told."""
    found: dict[tuple[UUID, str], list[Any]] = {}
    for id_, event, at in history:
        if isinstance(event, Used):
            source, is_news, told = event.presentation.source, event.secret is not None, 0
        elif isinstance(event, FirstUsed | UsedFromNewSource):
            source, is_news, told = event.source, False, 1
        else:
            continue
        row = found.setdefault((id_, spelled(source)), [at, is_news, 0])
        row[2] += told
    return found


def have_a_new_one(
    sources: Mapping[tuple[UUID, str], Sequence[Any]], since: datetime
) -> list[UUID]:
    """Those with several addresses that are known, one of them new since then."""
    found = []
    for id_ in sorted(TOKENS, reverse=True):
        firsts = [row[0] for (of, address), row in sources.items() if of == id_ and address]
        if len(firsts) > 1 and max(firsts) >= since:
            found.append(id_)
    return found


async def check(database: Database, history: Sequence[Fact]) -> None:
    pool = ReadPool(database.app, timeout_s=10)
    sources = known(history)
    try:
        stored = rows(database, PROJECTION, "key, first_at, is_news, told FROM {table}")
        assert {token_and_address(key): list(row) for key, *row in stored} == sources
        for since in sorted(
            {at + step for _, _, at in history for step in (0 * MINUTE, MILLISECOND)}
        ):
            page = await TokenQueries(pool).page(
                TokenFilter(new_source_since=since), after=None, limit=9, at=T0, ledger_head=0
            )
            found = [UUID(each["id"]) for each in msgspec.json.decode(page.documents)]
            assert found == have_a_new_one(sources, since), since
    finally:
        await pool.close()


@pytest.mark.parametrize("few", [FEW, 1])
@settings(max_examples=4)
@given_any(steps=STEPS, batch=st.sampled_from([2, 5000]))
def test_each_address_is_known_once(server: str, few: int, steps: list[Step], batch: int) -> None:
    """few: more new addresses than these are met on the way."""
    history = facts(steps)

    def of_few(statement: str) -> str:
        return statement.replace(str(FEW + 1), str(few + 1)).replace(str(FEW), str(few))

    with new_database(server) as database, pytest.MonkeyPatch.context() as patch:
        for name in ("NEW_SINCE", "ARE_MANY"):
            patch.setattr(token_sources, name, of_few(getattr(token_sources, name)))
        given(database, *history, batch=batch)
        asyncio.run(check(database, history))

"""Filters of a list go together: what several of them leave is what each of them leaves."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import product
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.event import Actor
from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Revoked, Rotated, Suspended, Used
from domain.secret import Digest
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from tests.conftest import Database, new_database
from tests.domain.scenario import T0
from tests.projections.history import Fact, given

HOUR: Final = timedelta(hours=1)
AT: Final = T0 + 10 * HOUR
TEAMS: Final = (UUID(int=1), UUID(int=2))
USERS: Final = (UUID(int=11), UUID(int=12))
NAMES: Final = ("Okta", "Entra")
ADDRESSES: Final = ("192.0.2.1", "2001:db8::1")
WHATEVER: Final = TokenFilter(status="all")
CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "status": ("active", "suspended", "expired", "revoked"),
    "teams": ((TEAMS[0],), TEAMS, ()),
    "name": (NAMES[0],),
    "created_by": (USERS[0],),
    "unused_since": (T0 + HOUR, T0 + 5 * HOUR, AT),
    "is_never_used": (True,),
    "new_source_since": (T0, T0 + 5 * HOUR),
    "is_rotating": (True,),
    "expires_before": (AT, AT + 2 * HOUR),
}
"""What each filter may ask for; whether several policies hold is a matter of its own."""


def lives() -> Iterator[tuple[UUID, list[Fact]]]:
    """A token for each way in which ends, rotations, uses and the like may go together."""
    ways = product(
        (None, AT - HOUR, AT + HOUR, AT + 9 * HOUR),  # its end
        (None, AT - HOUR, AT + HOUR),  # the end of the overlap
        (0, 1, 2),  # addresses that it was used from
        (False, True),  # suspended
        (False, True),  # revoked
    )
    for number, (end, overlap_until, addresses, is_suspended, is_revoked) in enumerate(ways, 1):
        id_ = UUID(int=number)
        actor = Actor(user_id=USERS[number % 3 % 2], api_token_id=None)
        named = TEAMS[number % 5 % 2], NAMES[number % 7 % 2]
        facts: list[Fact] = [(id_, Created(*named, actor, _digest(id_, 1), end), T0)]
        for place, address in enumerate(ADDRESSES[:addresses]):
            at = T0 + (2 + 4 * place) * HOUR
            facts.append((id_, Used(1, at, Presentation("scim", source=address)), at))
        at = T0 + 7 * HOUR
        if overlap_until is not None:
            facts.append((id_, Rotated(actor, _digest(id_, 2), overlap_until), at))
        if is_suspended:
            facts.append((id_, Suspended(actor), at))
        if is_revoked:
            facts.append((id_, Revoked(actor, None), at))
        yield id_, facts


def _digest(id_: UUID, number: int) -> Digest:
    return Digest(sha256(id_.bytes + bytes([number])).digest(), 1)


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    """Each of these lives, in the order of the instants."""
    with new_database(server) as database:
        facts = [fact for _, life in lives() for fact in life]
        given(database, *sorted(facts, key=_instant))
        yield database


def _instant(fact: Fact) -> datetime:
    return fact[2]


async def ids(database: Database, *narrowed: TokenFilter) -> list[list[UUID]]:
    """What each of these lists holds, read by pages of 7."""
    pool = ReadPool(database.app, timeout_s=10)
    try:
        return [await _ids(TokenQueries(pool), narrow) for narrow in narrowed]
    finally:
        await pool.close()


async def _ids(queries: TokenQueries, narrow: TokenFilter) -> list[UUID]:
    found, after = list[UUID](), None
    while True:
        page = await queries.page(narrow, after=after, limit=7, at=AT, ledger_head=0)
        found += [UUID(each["id"]) for each in json.loads(page.documents)]
        if (after := page.next) is None:
            return found


def facts_of(life: list[Fact]) -> dict[type[Any], Any]:
    """The last event of each kind in a life."""
    return {type(event): event for _, event, _ in life}


ALONE: Final[Mapping[str, Callable[[Any, dict[type[Any], Any]], bool]]] = {
    "is_rotating": lambda _, life: (
        Rotated in life
        and Revoked not in life
        and life[Rotated].overlap_until > AT
        and (life[Created].expires_at is None or life[Created].expires_at > AT)
    ),
    "expires_before": lambda before, life: (
        life[Created].expires_at is not None and life[Created].expires_at < before
    ),
    "is_never_used": lambda _, life: Used not in life,
}
"""What some filters ask for, told by the events."""


@pytest.mark.parametrize("name", ALONE)
def test_a_filter_leaves_what_the_events_tell(ledger: Database, name: str) -> None:
    for value in CHOICES[name]:
        (found,) = asyncio.run(ids(ledger, replace(WHATEVER, **{name: value})))
        expected = [id_ for id_, life in lives() if ALONE[name](value, facts_of(life))]
        assert sorted(found) == expected, value
        assert expected


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given_any(
    asked=st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(values) for name, values in CHOICES.items()}
    )
)
def test_several_filters_leave_what_each_of_them_leaves(
    ledger: Database, asked: dict[str, Any]
) -> None:
    alone = [replace(WHATEVER, **{name: value}) for name, value in asked.items()]
    together, whatever, *each = asyncio.run(
        ids(ledger, replace(WHATEVER, **asked), WHATEVER, *alone)
    )
    left = [id_ for id_ in whatever if all(id_ in found for found in each)]
    assert together == left


def test_each_two_filters_leave_what_both_of_them_leave(ledger: Database) -> None:
    pairs = [
        ({one: value}, {other: another})
        for one, other in product(CHOICES, CHOICES)
        if one < other
        for value, another in product(CHOICES[one], CHOICES[other])
    ]
    asked = [{}, *(pair[0] | pair[1] for pair in pairs)]
    asked += [each for pair in pairs for each in pair]
    filters = {repr(each): replace(WHATEVER, **each) for each in asked}
    told = dict(zip(filters, asyncio.run(ids(ledger, *filters.values())), strict=True))
    for one, other in pairs:
        both = [id_ for id_ in told[repr(one)] if id_ in told[repr(other)]]
        assert told[repr(one | other)] == both, (one, other)

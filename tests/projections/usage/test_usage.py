"""The views `usage` and `token_sources`: given events, these rows; the same again when rebuilt."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Refused, Used
from domain.scim_token.warnings import UsedFromNewSource
from domain.secret import secret_id
from projections.projection import Projection
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenPage, TokenQueries
from projections.token_sources import view as token_sources
from projections.usage import view as usage
from projections.usage.queries import UsageQueries, UsageStep
from tests.conftest import Database, catch_up
from tests.domain import scenario
from tests.domain.scenario import ADA, FIRST, MINUTE, SECOND, T0, T1, T2, T3, TEAM_ID, TOKEN_ID
from tests.projections.given_events import row_after
from tests.projections.history import Fact, content, deliver_again, given, rebuilt, rows
from tests.turns import by_turns

OTHER_ID = UUID(int=99)


def created(token_id: UUID = TOKEN_ID) -> Fact:
    digest = FIRST if token_id == TOKEN_ID else SECOND
    return (
        token_id,
        Created(team_id=TEAM_ID, name="Okta", created_by=ADA, digest=digest, expires_at=None),
        T0,
    )


def used(
    at: datetime, source: str | None = "192.0.2.1", *, count: int = 1, of: UUID = TOKEN_ID
) -> Fact:
    return (
        of,
        Used(count, at, Presentation(door="scim", source=source), secret_id(FIRST.value)),
        at,
    )


def refused(at: datetime, source: str | None = "192.0.2.1") -> Fact:
    return (
        TOKEN_ID,
        Refused("revoked", Presentation(door="scim", source=source), secret_id(FIRST.value)),
        at,
    )


HISTORY = (
    created(),
    created(OTHER_ID),
    used(T1, count=3),
    used(T1 + MINUTE, "192.0.2.2"),
    used(T1 + 2 * MINUTE, None, of=OTHER_ID),
    refused(T1 + 3 * MINUTE, "2001:db8::1"),
    used(T2, "192.0.2.2", count=2),
)


def is_new_since(database: Database, at: datetime) -> set[UUID]:
    """The tokens that were used from a new address since then."""

    async def ask() -> TokenPage:
        pool = ReadPool(database.app)
        try:
            narrow = TokenFilter(new_source_since=at)
            return await TokenQueries(pool).page(
                narrow, after=None, limit=100, at=T0, ledger_head=0
            )
        finally:
            await pool.close()

    return {UUID(found["id"]) for found in msgspec.json.decode(asyncio.run(ask()).documents)}


def hours(database: Database) -> list[tuple[UUID, datetime, str, int, int]]:
    """Token, hour, address, uses and refusals of each row."""
    found = rows(database, usage.PROJECTION, "key, uses, refusals FROM {table} ORDER BY key")
    return [
        (UUID(bytes=key[:16]), _hour(key[24:28]), key[28:].decode(), *counts)
        for key, *counts in found
    ]


def _hour(number: bytes) -> datetime:
    return usage.EPOCH + int.from_bytes(number, "big") * usage.HOUR


def sources(database: Database) -> list[tuple[UUID, str, datetime]]:
    """Token, address and its first use of each row."""
    found = rows(database, token_sources.PROJECTION, "key, first_at FROM {table} ORDER BY key")
    return [(UUID(bytes=key[:16]), key[16:].decode(), at) for key, at in found]


def test_given_uses_and_refusals_then_a_row_of_their_hour_and_address() -> None:
    events = (scenario.used(T1, count=2), scenario.refused(T1 + MINUTE), scenario.used(T1))
    key = usage.key_of(TOKEN_ID, secret_id(FIRST.value), T1, "192.0.2.1")
    row = usage.UsageRow(key, 3, 1, T1, T1)
    assert row_after(usage.PROJECTION, scenario.created(), *events) == row


def test_given_uses_from_an_address_then_a_row_of_the_first() -> None:
    events = (scenario.used(T1), scenario.used(T2))
    key = token_sources.key_of(TOKEN_ID, "192.0.2.1")
    assert row_after(token_sources.PROJECTION, *events) == token_sources.SourceRow(
        key, T1, is_news=True, told=0
    )


def test_uses_and_refusals_are_counted_by_the_hour(database: Database) -> None:
    given(database, *HISTORY)

    assert hours(database) == [
        (OTHER_ID, T1, "", 1, 0),
        (TOKEN_ID, T1, "192.0.2.1", 3, 0),
        (TOKEN_ID, T1, "192.0.2.2", 1, 0),
        (TOKEN_ID, T1, "2001:db8::1", 0, 1),
        (TOKEN_ID, T2, "192.0.2.2", 2, 0),
    ]


@pytest.mark.parametrize("batch", by_turns([1, 2, 3], one_of=3))
def test_batches_add_up_to_what_a_rebuild_makes_of_all(database: Database, batch: int) -> None:
    given(database, *HISTORY, batch=batch)
    by_batches = hours(database), sources(database)

    for projection in (usage.PROJECTION, token_sources.PROJECTION):
        rebuilt(database, projection)

    assert by_batches == (hours(database), sources(database))


def test_the_first_address_of_a_token_is_no_new_one(database: Database) -> None:
    given(database, created(), used(T1), used(T2))

    assert sources(database) == [(TOKEN_ID, "192.0.2.1", T1)]
    assert is_new_since(database, T0) == set()


def test_a_further_address_is_new_once(database: Database) -> None:
    given(database, *HISTORY)

    assert sources(database) == [
        (OTHER_ID, "", T1 + 2 * MINUTE),
        (TOKEN_ID, "192.0.2.1", T1),
        (TOKEN_ID, "192.0.2.2", T1 + MINUTE),
    ]
    assert is_new_since(database, T0) == is_new_since(database, T1 + MINUTE) == {TOKEN_ID}
    assert is_new_since(database, T1 + 2 * MINUTE) == set()


def test_uses_of_unknown_address_are_no_address_and_make_none_new(database: Database) -> None:
    given(database, created(), used(T1, None), used(T2))

    assert sources(database) == [(TOKEN_ID, "", T1), (TOKEN_ID, "192.0.2.1", T2)]
    assert is_new_since(database, T0) == set()


def test_what_was_told_is_on_the_row_and_no_later_use_takes_it_away(database: Database) -> None:
    warning = TOKEN_ID, UsedFromNewSource(source="192.0.2.1"), T2
    given(database, created(), used(T1), warning, used(T3), batch=1)

    (row,) = rows(database, token_sources.PROJECTION, "first_at, is_news, told FROM {table}")
    assert row == (T1, True, 1)


def test_a_use_of_a_release_that_told_nothing_is_no_news(database: Database) -> None:
    old = TOKEN_ID, Used(1, T1, Presentation(door="scim", source="192.0.2.1")), T1
    given(database, created(), old, used(T2))

    (row,) = rows(database, token_sources.PROJECTION, "first_at, is_news, told FROM {table}")
    assert row == (T1, False, 0)


def test_a_use_from_a_known_address_does_not_write_its_row(database: Database) -> None:
    """Not even its lock, which stands in the row."""
    given(database, created(), used(T1))
    place = "ctid, xmin::text, xmax::text FROM {table}"
    before = rows(database, token_sources.PROJECTION, place)

    given(database, used(T2), after=2)

    assert rows(database, token_sources.PROJECTION, place) == before


def test_of_two_addresses_at_one_instant_one_is_new(database: Database) -> None:
    given(database, created(), used(T1), used(T1, "192.0.2.2"))

    assert is_new_since(database, T1) == {TOKEN_ID}


@pytest.mark.parametrize(
    "projection", [usage.PROJECTION, token_sources.PROJECTION], ids=lambda p: p.name
)
def test_delivered_twice_it_is_the_same(database: Database, projection: Projection) -> None:
    given(database, *HISTORY)
    before = content(database, projection)

    deliver_again(database, projection)
    catch_up(database)

    assert content(database, projection) == before


@pytest.mark.parametrize(
    "projection", [usage.PROJECTION, token_sources.PROJECTION], ids=lambda p: p.name
)
def test_rebuilt_it_is_the_same(database: Database, projection: Projection) -> None:
    given(database, *HISTORY)
    before = content(database, projection)

    assert rebuilt(database, projection) == before


def test_steps_are_dense_and_end_where_asked(database: Database) -> None:
    given(database, *HISTORY)

    async def steps(start: datetime, end: datetime, step: timedelta) -> list[UsageStep]:
        pool = ReadPool(database.app)
        try:
            return await UsageQueries(pool).steps(
                TOKEN_ID, from_at=start, to_at=end, step=step, ledger_head=0
            )
        finally:
            await pool.close()

    hour, day = timedelta(hours=1), timedelta(days=1)
    assert asyncio.run(steps(T0 + MINUTE, T2 + MINUTE, hour)) == [
        UsageStep("2021-08-10T10:00:00.000Z", 0, 0, 0),
        UsageStep("2021-08-10T11:00:00.000Z", 4, 1, 3),
        UsageStep("2021-08-10T12:00:00.000Z", 2, 0, 1),
    ]
    assert asyncio.run(steps(T1, T2, hour)) == [UsageStep("2021-08-10T11:00:00.000Z", 4, 1, 3)]
    assert asyncio.run(steps(T0 - day, T2 + hour, day)) == [
        UsageStep("2021-08-09T00:00:00.000Z", 0, 0, 0),
        UsageStep("2021-08-10T00:00:00.000Z", 6, 1, 3),
    ]


def test_days_of_many_tokens_are_the_steps_of_each(database: Database) -> None:
    """Of every secret of a token, and of no token beside it in the index."""
    given(
        database,
        *HISTORY,
        used(T2 + timedelta(days=1), None, count=7, of=OTHER_ID),
        used(T2 + timedelta(days=2), count=5),
    )

    async def days(*ids: UUID, to_at: datetime) -> Mapping[UUID, Sequence[int]]:
        pool = ReadPool(database.app)
        try:
            return await UsageQueries(pool).days(ids, days=3, to_at=to_at, ledger_head=0)
        finally:
            await pool.close()

    nobody, last = UUID(int=7), T2 + timedelta(days=2, minutes=1)
    assert asyncio.run(days(TOKEN_ID, OTHER_ID, nobody, to_at=last)) == {
        TOKEN_ID: [6, 0, 5],
        OTHER_ID: [1, 7, 0],
        nobody: [0, 0, 0],
    }
    assert asyncio.run(days(TOKEN_ID, to_at=T2 + MINUTE)) == {TOKEN_ID: [0, 0, 6]}

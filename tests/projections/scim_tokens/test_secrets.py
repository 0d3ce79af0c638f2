"""Which secrets a token has, and when each was used: the views `scim_tokens` and `usage`."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from domain.errors import NotFound
from domain.postgres.connection import configure
from domain.postgres.read_pool import ReadPool
from domain.postgres.session import READING
from domain.scim_token.events import Refused, Used
from projections.described import rfc3339
from projections.scim_tokens import secrets
from projections.scim_tokens.secrets import SecretQueries, TokenSecret
from projections.usage import view as usage
from tests.conftest import Database
from tests.domain.scenario import (
    IDP,
    MINUTE,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    THIRD,
    TOKEN_ID,
    Given,
    created,
    refused,
    revoked,
    rotated,
    used,
)
from tests.projections.history import Fact, given
from tests.turns import by_turns

HOUR = timedelta(hours=1)
AT_ONCE = timedelta(0)


def facts(*events: Given) -> list[Fact]:
    return [(TOKEN_ID, *event) for event in events]


def told(database: Database, teams: Sequence[UUID] | None = None) -> list[TokenSecret]:
    async def ask() -> list[TokenSecret]:
        pool = ReadPool(database.app)
        try:
            return await SecretQueries(pool).of_token(TOKEN_ID, teams=teams, ledger_head=0)
        finally:
            await pool.close()

    return asyncio.run(ask())


def secret(
    id_: str,
    created_at: datetime,
    first: datetime | None = None,
    last: datetime | None = None,
    ends_at: datetime | None = None,
) -> TokenSecret:
    instants = [None if each is None else rfc3339(each) for each in (first, last, ends_at)]
    return TokenSecret(id_, rfc3339(created_at), *instants)


def test_a_secret_that_was_never_used(database: Database) -> None:
    given(database, *facts(created()))
    assert told(database) == [secret("01010101", T0)]


def test_each_secret_has_uses_of_its_own(database: Database) -> None:
    """Also where both are used in one hour, from several addresses."""
    elsewhere = msgspec.structs.replace(IDP, source="192.0.2.9")
    given(
        database,
        *facts(
            created(),
            (Used(1, T1, elsewhere, "01010101"), T1),
            used(T1 + MINUTE),
            rotated(T2, overlap=2 * HOUR),
            used(T2 + MINUTE, digest=SECOND),
            (Used(1, T2, elsewhere, "01010101"), T2 + 2 * MINUTE),
            used(T3, digest=SECOND),
        ),
    )
    assert told(database) == [
        secret("01010101", T0, T1, T2 + 2 * MINUTE, T4),
        secret("02020202", T2, T2 + MINUTE, T3),
    ]


def test_a_refusal_is_no_use(database: Database) -> None:
    over = [refused(at, reason="expired") for at in (T3, T4)]
    given(database, *facts(created(), used(T1), rotated(T2, overlap=AT_ONCE), *over))
    assert told(database) == [secret("01010101", T0, T1, T1, T2), secret("02020202", T2)]


@pytest.mark.parametrize(
    ("events", "ends"),
    by_turns(
        [
            ((created(expires_at=T4),), [T4]),
            ((created(expires_at=T3), rotated(T1)), [T3, T3]),
            ((created(expires_at=T4), rotated(T1, overlap=HOUR)), [T2, T4]),
            ((created(), rotated(T1, overlap=HOUR), revoked(T3)), [T2, T3]),
            ((created(), rotated(T1), revoked(T3)), [T3, T3]),
            (
                (created(), rotated(T1, overlap=HOUR), rotated(T3, digest=THIRD)),
                [T2, T3 + 24 * HOUR, None],
            ),
        ],
        one_of=3,
    ),
)
def test_a_secret_ends_with_its_overlap_its_token_or_a_revocation(
    database: Database, events: Sequence[Given], ends: list[datetime | None]
) -> None:
    given(database, *facts(*events))
    assert [each.ends_at for each in told(database)] == [
        None if end is None else rfc3339(end) for end in ends
    ]


def test_uses_that_name_no_secret_are_those_of_the_only_one(database: Database) -> None:
    """As a release recorded them that did not tell."""
    untold = [(Used(1, T1, IDP), T1), used(T2), (Refused("revoked", IDP), T3)]
    given(database, *facts(created(), *untold))
    assert told(database) == [secret("01010101", T0, T1, T2)]


def test_of_several_secrets_nobody_knows_which_it_was(database: Database) -> None:
    given(database, *facts(created(), (Used(1, T1, IDP), T1), rotated(T2), used(T3)))
    first = [None if at is None else rfc3339(at) for at in (T3, None)]
    assert [each.first_used_at for each in told(database)] == first


def test_foreign_and_missing_are_one(database: Database) -> None:
    given(database, *facts(created()))
    assert told(database, [TEAM_ID])
    with pytest.raises(NotFound):
        told(database, [uuid4()])


def test_it_costs_the_same_after_years_of_use(database: Database) -> None:
    """An entry from either end of each secret's hours; a hundred thousand are between."""
    given(database, *facts(created(), rotated(T1), used(T2), used(T2, digest=SECOND)))
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO views.usage_v1 SELECT %s || convert_to(secret, 'UTF8') || int4send(n) || "
            "convert_to('192.0.2.' || n %% 9, 'UTF8'), 1, 0, %s, %s "
            "FROM generate_series(500000, 550000) n, unnest(ARRAY['01010101', '02020202']) secret",
            [TOKEN_ID.bytes, T2, T3],
        )
        configure(connection, READING)
        select = secrets._SQL["secrets"].format(
            scim_tokens="views.scim_tokens_v1", usage=usage.PROJECTION.table(1)
        )
        plan = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {select}".encode(),
            {"token": TOKEN_ID, "teams": None},
        ).fetchone()
    assert plan is not None
    assert "Seq Scan" not in str(plan[0])
    assert plan[0][0]["Plan"]["Shared Hit Blocks"] + plan[0][0]["Plan"]["Shared Read Blocks"] < 60

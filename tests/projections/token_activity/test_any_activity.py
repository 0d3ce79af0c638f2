"""Whatever was done with tokens: what one of them did of late is what its own rows say, and nothing
of the tokens beside it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.postgres.read_pool import ReadPool
from projections.audit_trail.view import USED, AuditEvent, AuditRow, event_of
from projections.token_activity import queries as token_activity
from projections.token_activity.queries import ActivityQueries, Presenter
from projections.usage import view as usage
from projections.usage.view import key_of
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.projections.audit_trail.any_rows import TOKENS, put, some_rows, standing_far_beyond

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
DAYS, NEWEST, SHOWN = 3, 5, 2

USES: Final = st.lists(
    st.tuples(
        st.sampled_from([*TOKENS]),
        st.sampled_from([None, "5e1f09ab"]),
        st.integers(0, 99),
        st.integers(0, 3),
    ),
    max_size=12,
)
"""Token, secret, hours before the last one, and how often."""


@pytest.fixture(scope="module")
def database(server: str) -> Iterator[Database]:
    with standing_far_beyond(server) as made:
        yield made


def by_few(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """Some of the same come again and again."""
    return [
        row if row.position % 3 == 0 else msgspec.structs.replace(row, door=None, source=None)
        for row in rows
    ]


def put_uses(database: Database, uses: Sequence[tuple[UUID, str | None, int, int]]) -> None:
    """These rows of `usage`, and no others."""
    live = usage.PROJECTION.table(1)
    counts = {key_of(id_, secret, T0 - hours * HOUR): count for id_, secret, hours, count in uses}
    with psycopg.connect(database.owner) as owner, owner.cursor() as cursor:
        cursor.execute(f"DELETE FROM {live}".encode())
        cursor.executemany(
            f"INSERT INTO {live} VALUES (%s, %s, 1, NULL, NULL)".encode(), list(counts.items())
        )


def days_of(uses: Sequence[tuple[UUID, str | None, int, int]], token_id: UUID) -> list[int]:
    counts = {(secret, hours): count for id_, secret, hours, count in uses if id_ == token_id}
    days = [0] * DAYS
    for (_, hours), count in counts.items():
        ago = (T0.date() - (T0 - hours * HOUR).date()).days
        if ago < DAYS:
            days[DAYS - 1 - ago] += count
    return days


def presenters_of(rows: Sequence[AuditRow], token_id: UUID) -> list[Presenter]:
    """Of its newest uses, the newest first."""
    newest = [row for row in reversed(rows) if row.token_id == token_id and row.kind == USED]
    by_whom: dict[tuple[str | None, str | None, str | None], list[AuditRow]] = {}
    for row in newest[:NEWEST]:
        source = None if row.source is None else str(row.source)
        by_whom.setdefault((row.door, source, row.user_agent), []).append(row)
    found = [
        Presenter(*who, sum(row.count for row in its), its[0].at) for who, its in by_whom.items()
    ]
    return found[:SHOWN]


def facts_of(rows: Sequence[AuditRow], token_id: UUID) -> list[AuditEvent]:
    others = [row for row in reversed(rows) if row.token_id == token_id and row.kind != USED]
    return [event_of(row) for row in others[:SHOWN]]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_any(rows=some_rows([*TOKENS][:2], min_size=15).map(by_few), uses=USES)
def test_it_is_what_the_rows_of_the_token_say(
    database: Database, rows: list[AuditRow], uses: list[tuple[UUID, str | None, int, int]]
) -> None:
    put(database, rows)
    put_uses(database, uses)

    async def ask() -> None:
        pool = ReadPool(database.app, timeout_s=10)
        try:
            for token_id in [*TOKENS][:3]:
                found = await ActivityQueries(pool).of_token(
                    token_id, days=DAYS, to_at=T0 + HOUR, ledger_head=0, presenters=SHOWN
                )
                assert list(found.days) == days_of(uses, token_id)
                assert found.presenters == presenters_of(rows, token_id)
                assert found.facts == facts_of(rows, token_id)
        finally:
            await pool.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_activity, "NEWEST_USES", NEWEST)
        patch.setattr(token_activity, "FACTS", SHOWN)
        asyncio.run(ask())

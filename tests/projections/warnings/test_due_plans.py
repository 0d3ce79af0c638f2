"""What is due is read along an index, however many tokens there are of which nothing is due."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from domain.postgres.connection import configure
from domain.postgres.session import READING
from domain.postgres.sql_file import statements
from projections.audit_trail import view as audit_trail
from projections.scim_tokens import view as scim_tokens
from projections.token_sources import view as token_sources
from tests.conftest import new_database
from tests.projections.scim_tokens.test_token_plans import make, nodes, rows_read
from tests.turns import by_turns

VERSION: Final = 99
VIEWS: Final = (scim_tokens.PROJECTION, token_sources.PROJECTION, audit_trail.PROJECTION)
TABLES: Final[Mapping[str, str]] = {view.name: view.table(VERSION) for view in VIEWS}
LIMIT: Final = 50
AT: Final = datetime(2026, 6, 1, tzinfo=UTC)
_NEWEST: Final = {"created_at": datetime(9999, 1, 1, tzinfo=UTC), "id": UUID(int=2**128 - 1)}
ASKED: Final[Mapping[str, Mapping[str, Any]]] = {
    "ends": {"at": AT, "limit": LIMIT},
    "rotation_ends": {"at": AT, "limit": LIMIT},
    "silences": {"at": AT, "unused_at": AT - timedelta(days=90), "limit": LIMIT, **_NEWEST},
    "oldest": {"at": AT},
    "sources": {"limit": LIMIT},
    "expiring": {"at": AT, "days": [30, 7, 1], "limit": LIMIT},
    "rotations_ending": {"at": AT, "days": [7, 1], "limit": LIMIT},
}
_TOKENS: Final = f"""
    INSERT INTO {TABLES["scim_tokens"]} (
        id, team_id, name, created_by, last_used_at, created_at, updated_at, expires_at, revoked_at,
        rotated_at, rotation_ends_at, rotation_due_at, next_warning_at, before_use,
        last_use, after_use, is_used
    )
    SELECT lpad(to_hex(n), 32, '0')::uuid, '00000000-0000-0000-0000-000000000001', 'Okta',
        '00000000-0000-0000-0000-000000000002', at, at, at, at + interval '1 year',
        CASE WHEN n %% 10 = 0 THEN at END,
        CASE WHEN n %% 10 = 1 THEN at END,
        CASE WHEN n %% 10 = 1 THEN at + interval '1 year' END,
        CASE WHEN n %% 10 = 1 THEN at + interval '1 year' - interval '7 days' END,
        CASE WHEN n %% 10 <> 0 THEN at + interval '1 year' - interval '30 days' END,
        'before', 'last', 'after', true
    FROM (
        SELECT n, timestamptz '2025-06-15Z' + n * interval '350 days' / %(rows)s AS at
        FROM generate_series(1, %(rows)s) n
    ) generated
"""
"""They end one after the other, in the next year. Every tenth was revoked, every tenth rotates."""
_SOURCES: Final = f"""
    INSERT INTO {TABLES["token_sources"]} (key, first_at, is_news, told)
    SELECT uuid_send(lpad(to_hex(n), 32, '0')::uuid) || convert_to(address, 'UTF8'),
        timestamptz '2025-06-15Z' + n * interval '1 s', n %% 2 = 0, (n %% 1000 <> 0)::int
    FROM generate_series(1, %(rows)s) n, unnest(ARRAY['192.0.2.1', '192.0.2.2']) address
"""
"""Of one in a thousand it is to be told."""


@pytest.fixture(
    scope="module",
    params=[20_000, pytest.param(1_000_000, marks=pytest.mark.long)],
    ids="{:,} tokens".format,
)
def tables(request: pytest.FixtureRequest, server: str) -> Iterator[psycopg.Connection]:
    with (
        new_database(server) as database,
        psycopg.connect(database.app, autocommit=True) as connection,
    ):
        for view in VIEWS:
            make(connection, view)
        connection.execute(_TOKENS.encode(), {"rows": request.param})
        connection.execute(_SOURCES.encode(), {"rows": request.param})
        configure(connection, READING)
        yield connection


@pytest.mark.parametrize("question", by_turns(ASKED, one_of=3))
def test_no_more_is_read_than_is_due(tables: psycopg.Connection, question: str) -> None:
    statement = statements("projections.warnings", "due.sql")[question]
    row = tables.execute(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}".format(**TABLES).encode(),
        ASKED[question],
    ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    kinds = {node["Node Type"] for node in nodes(plan)}
    assert not kinds & {"Seq Scan", "Bitmap Heap Scan", "Sort"}
    assert rows_read(plan) <= 3 * LIMIT

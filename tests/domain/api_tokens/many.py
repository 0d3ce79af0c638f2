"""API tokens of every kind, made in the database: what years of sign-ins leave behind."""

from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg

from domain.api_token.token import ApiToken
from domain.eventstore.lookups.api_tokens import stored_api_token
from tests.conftest import Database

TEAMS: Final = 49
MANAGER: Final = UUID(int=1 << 100)
"""Of all teams, without an end, the oldest; it opened the sessions."""

_STATES: Final = """
    INSERT INTO ledger.aggregates (originator_id, kind, state)
    SELECT id, 'api_token', convert_to(json_build_object(
        'id', id, 'version', 1, 'user_id', gen_random_uuid(), 'teams', teams,
        'permissions', CASE WHEN n %% 10 IN (0, 4, 9) THEN
            ARRAY['api_tokens:manage', 'scim_tokens:read'] ELSE ARRAY['scim_tokens:read'] END,
        'digest', json_build_object('key_generation', 1,
            'value', encode(sha256(convert_to(id::text, 'UTF8')), 'base64')),
        'created_at', at, 'expires_at', CASE
            WHEN is_session THEN at + interval '8 hours'
            WHEN n %% 10 IN (2, 3) THEN at + interval '1 minute' END,
        'revoked_at', CASE WHEN n %% 10 = 1 THEN at + interval '1 second' END,
        'session_of', CASE WHEN is_session THEN %(manager)s::uuid END)::text, 'UTF8')
    FROM (
        SELECT n, CASE n WHEN 0 THEN %(manager)s::uuid ELSE md5(n::text)::uuid END AS id,
            n %% 10 IN (4, 5, 6, 7) AS is_session,
            %(at)s::timestamptz - (%(count)s - n) / 3 * interval '10 minutes' AS at,
            CASE WHEN n = 0 OR n %% 7 = 0 THEN NULL
                WHEN n %% 10 = 8 THEN ARRAY[lpad(to_hex((n + 1) %% %(teams)s), 32, '0')::uuid,
                    lpad(to_hex(n %% %(teams)s), 32, '0')::uuid]
                ELSE ARRAY[lpad(to_hex(n %% %(teams)s), 32, '0')::uuid] END AS teams
        FROM generate_series(0, %(count)s - 1) n
    ) made
"""
_HEADS: Final = """
    INSERT INTO ledger.stream_heads (originator_id, version)
    SELECT originator_id, 1 FROM ledger.aggregates ON CONFLICT DO NOTHING
"""
_ALL: Final = """
    SELECT a.state, h.version, h.last_used_at, h.uses
    FROM ledger.aggregates a JOIN ledger.stream_heads h USING (originator_id)
    WHERE a.kind = 'api_token'
"""


def fill(database: Database, count: int, *, at: datetime) -> None:
    """`count` API tokens, the newest of them ten minutes before `at`: of ten, four are sessions, of
    which only those of the last eight hours are good, one was revoked, two have expired, and three
    are good. Some are of all teams, most of one, the others of two.
    """
    asked = {"count": count, "at": at, "teams": TEAMS, "manager": MANAGER}
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("SET TimeZone = 'UTC'")
        owner.execute(_STATES, asked)
        owner.execute(_HEADS)


def everyone(database: Database) -> list[ApiToken]:
    """Every API token by its state, newest first."""
    with psycopg.connect(database.owner) as owner:
        tokens = [stored_api_token(*row) for row in owner.execute(_ALL)]
    return sorted(tokens, key=lambda token: (token.created_at, token.id), reverse=True)

"""An audit trail of any length, generated in the database:
what a few hundred customers leave behind.
"""

from typing import Final
from uuid import UUID

import psycopg

from projections.audit_trail.view import PROJECTION

VERSION: Final = 99
TABLE: Final = PROJECTION.table(VERSION)
TEAMS: Final = 300
TOKENS: Final = 3 * TEAMS
USERS: Final = 50

_GENERATE: Final = f"""
    INSERT INTO {TABLE}
    SELECT n, timestamptz '2021-01-01Z' + n * interval '1 s',
        lpad(to_hex(token / 3), 32, '0')::uuid, lpad(to_hex(token + 65536), 32, '0')::uuid,
            gen_random_uuid(),
        CASE WHEN NOT is_presented THEN lpad(to_hex(n %% {USERS}), 32, '0')::uuid END,
        CASE WHEN NOT is_presented THEN lpad(to_hex(n %% {USERS}), 32, '0')::uuid END,
        1, CASE WHEN is_presented THEN -token END, kind,
        CASE kind WHEN 'scim_token.refused' THEN 'expired' END,
        CASE WHEN is_presented THEN 'scim' END,
        CASE WHEN is_presented
            THEN '192.0.2.0'::inet + token %% 200 + CASE WHEN n %% 10007 = 0 THEN 256
                ELSE 0 END END,
        CASE WHEN is_presented THEN 'Okta SCIM Client 1.0.0' END,
        CASE WHEN is_presented THEN 'PATCH' END,
        CASE WHEN is_presented THEN 'Users/{{id}}' END,
        NULL, NULL, NULL
    FROM (
        SELECT n, (hashint8(n) & 1073741823) %% {TOKENS} AS token,
            CASE n %% 100 WHEN 0 THEN 'scim_token.refused' WHEN 1 THEN 'scim_token.rotated'
                ELSE 'scim_token.used' END AS kind, n %% 100 <> 1 AS is_presented
        FROM generate_series(%s::int, %s::int) AS n
    ) generated
"""


def team(number: int) -> UUID:
    """One of the teams."""
    return UUID(int=number)


def token(number: int) -> UUID:
    """One of the tokens: three a team."""
    return UUID(int=number + 65536)


def user(number: int) -> UUID:
    """One of the users, who is its own API token."""
    return UUID(int=number)


def generate(connection: psycopg.Connection, count: int) -> None:
    """The table of a version of its own, with `count` rows, its indexes and its statistics."""
    # Not logged: it makes no difference to plans, and a third to the time.
    connection.execute(
        PROJECTION.create_table(VERSION).replace("CREATE", "CREATE UNLOGGED", 1).encode()
    )
    fill(connection, 1, count)
    for statement in PROJECTION.create_indexes(VERSION):
        connection.execute(statement.encode())
    connection.execute(f"ANALYZE {TABLE}".encode())


def begin(connection: psycopg.Connection) -> None:
    """The same table, empty: nothing is known of it, nor will be."""
    connection.execute(PROJECTION.create_table(VERSION).encode())
    connection.execute(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = false)".encode())
    for statement in PROJECTION.create_indexes(VERSION):
        connection.execute(statement.encode())


def fill(connection: psycopg.Connection, first: int, last: int) -> None:
    """These rows of it."""
    connection.execute(_GENERATE.encode(), [first, last])

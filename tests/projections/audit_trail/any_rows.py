"""Rows of the trail, any that could be there, and a view that holds nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from hypothesis import strategies as st

from projections.audit_trail.view import PROJECTION, USED, AuditRow
from tests.conftest import Database, new_database
from tests.domain.scenario import MILLISECOND, MINUTE, T0

HEAD: Final = 1000
TEAMS: Final = [UUID(int=number) for number in (1, 2, 3)]
TOKENS: Final = {UUID(int=10 + number): team for number, team in enumerate([*TEAMS[:2] * 2, None])}
"""And the team of each; the last one is nobody's."""
USERS: Final = [None, UUID(int=77), UUID(int=78)]
SECRETS: Final = [None, 0, -1, 0x5E1F09]
KINDS: Final = [
    *(USED, "scim_token.refused", "scim_token.rotated", "api_token.used", "refusal_tally.counted")
]
SOURCES: Final = [None, "192.0.2.0", "192.0.2.255", "192.0.3.0", "2001:db8::1", "::ffff:192.0.2.1"]
DOORS: Final = [None, "scim", "introspect"]
NAMES: Final = [None, "Okta"]


def _row(
    token: UUID | None, kind: str, later: timedelta, place: int, *more: Any
) -> tuple[timedelta, int, AuditRow]:
    """A row, how much later it is than the one before, and how far behind it."""
    user, api_token, secret, source, door, user_agent, count = more
    if kind == USED:
        user = api_token = None  # a use names neither
    team = None if token is None else TOKENS[token]
    what = (token, UUID(int=place), user, api_token, count, secret if token else None, kind)
    source = None if source is None else ip_address(source)
    return later, place, AuditRow(0, T0, team, *what, None, door, source, user_agent, *[None] * 7)


def _numbered(drawn: Sequence[tuple[timedelta, int, AuditRow]]) -> list[AuditRow]:
    """Instants and positions grow together."""
    position, at, found = 0, T0, list[AuditRow]()
    for later, behind, row in drawn:
        position, at = position + behind, at + later
        found.append(msgspec.structs.replace(row, position=position, at=at))
    return found


def some_rows(
    tokens: Sequence[UUID | None], *, min_size: int = 0
) -> st.SearchStrategy[list[AuditRow]]:
    """Rows of these tokens; of None, of nobody's."""
    row = st.builds(
        _row,
        st.sampled_from(tokens),
        st.sampled_from([*KINDS, USED, USED]),
        st.sampled_from([0 * MINUTE, 0 * MINUTE, MILLISECOND, MINUTE]),
        st.integers(1, 3),
        *(st.sampled_from(each) for each in (USERS, USERS, SECRETS, SOURCES, DOORS, NAMES)),
        st.integers(1, 5),
    )
    return st.lists(row, min_size=min_size, max_size=25).map(_numbered)


@contextmanager
def standing_far_beyond(server: str) -> Iterator[Database]:
    """A database whose views stand far beyond the ledger's head: rows of them are a test's own."""
    with new_database(server) as made:
        with psycopg.connect(made.owner) as owner:
            owner.execute("UPDATE ledger.projection_positions SET position = %s", [HEAD])
        yield made


def put(database: Database, rows: Sequence[AuditRow]) -> None:
    """These rows, and no others."""
    live = PROJECTION.table(1)
    with psycopg.connect(database.owner) as owner, owner.cursor() as cursor:
        cursor.execute(f"DELETE FROM {live}".encode())
        places = ", ".join(["%s"] * len(PROJECTION.columns))
        cursor.executemany(
            f"INSERT INTO {live} VALUES ({places})".encode(),
            [msgspec.structs.astuple(row) for row in rows],
        )

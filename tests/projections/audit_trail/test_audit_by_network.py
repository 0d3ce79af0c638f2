"""E4: a network narrows the trail, on either way to read it."""

import asyncio
from ipaddress import ip_network
from itertools import product
from typing import Final
from uuid import UUID

import pytest

from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Used
from domain.secret import Digest
from projections.audit_trail import statement as audit_statement
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from tests.conftest import Database
from tests.domain.scenario import ADA, MINUTE, T0, TEAM_ID
from tests.projections.history import Fact, given
from tests.turns import by_turns

TOKEN: Final = UUID(int=1)
CLOCK_AND_IDS: Final = (
    "192.0.2.1",
    "198.51.100.7",
    None,
    "192.0.2.200",
    "2001:db8::1",
    "192.0.3.1",
    "192.0.2.1",
)


FOUND: Final = [
    ("192.0.2.0/24", ["192.0.2.1", "192.0.2.200", "192.0.2.1"]),
    ("192.0.2.1/32", ["192.0.2.1", "192.0.2.1"]),
    ("192.0.2.0/23", ["192.0.2.1", "192.0.2.200", "192.0.3.1", "192.0.2.1"]),
    ("2001:db8::/32", ["2001:db8::1"]),
    ("203.0.113.0/24", []),
]


@pytest.mark.parametrize(
    ("found", "few", "is_newest_first"),
    by_turns(product(FOUND, [0, 2, 10_000], [True, False]), one_of=7),
)
def test_only_what_came_from_the_network_is_told(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    *,
    few: int,
    is_newest_first: bool,
    found: tuple[str, list[str]],
) -> None:
    network, expected = found
    monkeypatch.setattr(audit_statement, "FEW", few)
    facts: list[Fact] = [(TOKEN, Created(TEAM_ID, "Okta", ADA, Digest(bytes(32), 1), None), T0)]
    for number, source in enumerate(CLOCK_AND_IDS, start=1):
        at = T0 + number * MINUTE
        facts.append((TOKEN, Used(1, at, Presentation(door="scim", source=source)), at))
    given(database, *facts)

    async def ask() -> list[str | None]:
        pool = ReadPool(database.app, timeout_s=10)
        try:
            span = Span(is_newest_first=is_newest_first)
            narrow = AuditFilter(source=ip_network(network))
            page = await AuditQueries(pool).page(narrow, span, limit=100, ledger_head=0)
            return [event.source for event in page.events]
        finally:
            await pool.close()

    assert asyncio.run(ask()) == (expected[::-1] if is_newest_first else expected)

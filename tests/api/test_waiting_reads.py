"""A read that a view is not ready for has the runner told:
it does not wait until the next batch is due.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import uvloop

from api.app import build
from api.service import Service
from api.settings import Settings
from domain.errors import ProjectionBehind
from projections import view_reader
from projections.audit_trail.statement import AuditFilter, Span
from projections.follow.wake_ups import WakeUps
from projections.scim_tokens.filters import TokenFilter
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.service import PEPPER_KEY
from tests.turns import by_turns

NOBODY_KNOWS: Final = UUID(int=1)
ANY: Final = TokenFilter()
NEW_SOURCE: Final = TokenFilter(new_source_since=T0)

READS: Final[dict[str, Callable[[Service], Awaitable[Any]]]] = {
    "token": lambda s: s.tokens.find(NOBODY_KNOWS, teams=None, ledger_head=1),
    "tokens": lambda s: s.tokens.page(ANY, after=None, limit=1, at=T0, ledger_head=1),
    "tokens by source": lambda s: s.tokens.page(
        NEW_SOURCE, after=None, limit=1, at=T0, ledger_head=1
    ),
    "token as of": lambda s: s.as_of.find(NOBODY_KNOWS, teams=None, at=T0, ledger_head=1),
    "audit": lambda s: s.audit.page(AuditFilter(), Span(), limit=1, ledger_head=1),
    "usage": lambda s: s.usage.steps(
        NOBODY_KNOWS, from_at=T0, to_at=T0, step=timedelta(hours=1), ledger_head=1
    ),
}


@pytest.mark.parametrize("read", by_turns(READS, one_of=3))
def test_the_runner_is_told(read: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_reader, "FRESH_TIMEOUT_S", 0.01)
    told, tell = os.pipe()

    async def ask() -> None:
        service = build(
            Settings(database_url=database.app, pepper=PEPPER_KEY, wake_fd=tell)
        )._service
        try:
            await READS[read](service)
        finally:
            await service.ledger.aclose()

    try:
        with pytest.raises(ProjectionBehind):
            uvloop.run(ask())
        assert WakeUps(told).wait(0)
    finally:
        os.close(told)
        os.close(tell)

"""The console of a running service, as a browser asks it."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.postgres.prepared_statement import PreparedReads
from tests.conftest import new_database
from tests.console.browsing import BASE_URL, Visitor
from tests.service import Caller, RunningService, running_service


@pytest.fixture(scope="package")
def service(server: str) -> Iterator[RunningService]:
    """A service for all tests that leave it as they found it; it stands behind a gateway."""
    gateway = {"SCIM_LEDGER_SCIM_BASE_URL": BASE_URL}
    with (
        new_database(server) as database,
        running_service(database, environment=gateway) as started,
    ):
        yield started


@pytest.fixture(scope="package")
def admin(service: RunningService) -> Caller:
    """An API token that may do everything."""
    return service.api_token()


@pytest.fixture
def team() -> UUID:
    """A team that no other test knows."""
    return uuid4()


@pytest.fixture
def visitor(service: RunningService, admin: Caller) -> Iterator[Visitor]:
    """Somebody who is signed in and may do everything."""
    with Visitor(service.url) as visiting:
        visiting.sign_in(admin.secret)
        yield visiting


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process asks the database for."""
    asked: list[str] = []

    def counting(owner: type, name: str) -> None:
        ask = getattr(owner, name)

        async def counted(self: Any, query: Any, *more: Any, **options: Any) -> Any:
            asked.append(str(query))
            return await ask(self, query, *more, **options)

        monkeypatch.setattr(owner, name, counted)

    counting(psycopg.AsyncCursor, "execute")
    counting(PreparedReads, "rows")
    return asked

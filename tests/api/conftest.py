"""One running service for all tests that leave it as they found it:
each has callers and teams of its own.
"""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from tests.api.documented import Documented
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service


@pytest.fixture(scope="session")
def service(server: str) -> Iterator[RunningService]:
    """The real service; whatever it answers to `service.client` is held against
    its OpenAPI document.
    """
    with new_database(server) as database, running_service(database) as started:
        document = started.client.get("/docs/openapi.json").json()
        started.client.event_hooks["response"].append(Documented(document))
        yield started


@pytest.fixture(scope="session")
def admin(service: RunningService) -> Caller:
    """An API token that may do everything."""
    return service.api_token()


@pytest.fixture
def team() -> UUID:
    """A team that no other test knows."""
    return uuid4()

"""The real service, shared by every front of this directory: each test has a token of its own."""

from collections.abc import Iterator

import pytest

from tests.conftest import new_database
from tests.gateways.fronts import Ledger
from tests.gateways.scripted import scripted_ledger
from tests.service import running_service


@pytest.fixture(scope="session")
def ledger(server: str) -> Iterator[Ledger]:
    """Two workers, so that a revoke in one is seen by the other."""
    trusting = {"SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1"}
    with (
        new_database(server) as database,
        running_service(database, workers=2, environment=trusting) as service,
    ):
        yield Ledger(service, service.api_token())


@pytest.fixture(scope="session")
def scripted() -> Iterator[str]:
    """URL of the stand-in whose answer is what the token says."""
    with scripted_ledger() as url:
        yield url

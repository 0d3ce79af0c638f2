"""One running service for all tests that leave it as they found it:
each has callers and teams of its own.
"""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from tests.api.documented import Documented
from tests.api.doors.scim.proxied import Proxied
from tests.api.doors.scim.upstream import running_upstream
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service


@pytest.fixture(scope="package")
def service(server: str) -> Iterator[RunningService]:
    """The real service; whatever it answers to `service.client` is held against
    its OpenAPI document.
    """
    with new_database(server) as database, running_service(database) as started:
        document = started.client.get("/docs/openapi.json").json()
        started.client.event_hooks["response"].append(Documented(document))
        yield started


@pytest.fixture(scope="package")
def admin(service: RunningService) -> Caller:
    """An API token that may do everything."""
    return service.api_token()


@pytest.fixture(scope="package")
def started(server: str) -> Iterator[Proxied]:
    """One service in front of one SCIM service, for the files that share it (`tests.schedule`)."""
    with new_database(server) as database, running_upstream() as upstream:
        settings = {
            "SCIM_UPSTREAM_URL": upstream.url,
            "SCIM_LEDGER_UPSTREAM_HEAD_TIMEOUT_S": "0.7",
            "SCIM_LEDGER_UPSTREAM_IDLE_TIMEOUT_S": "0.7",
            "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.9",
        }
        with running_service(database, environment=settings) as service:
            team_id = uuid4()
            caller = service.api_token()
            made = service.client.post(
                "/scim-token", auth=caller, json={"team_id": str(team_id), "name": "proxied"}
            ).json()
            yield Proxied(service, upstream, made["token"], UUID(made["id"]), team_id)


@pytest.fixture
def proxied(started: Proxied) -> Proxied:
    """It, its upstream as if new."""
    upstream = started.upstream
    upstream.requests.clear()
    for event in (upstream.has_begun, upstream.was_left, upstream.release):
        event.clear()
    return started


@pytest.fixture
def team() -> UUID:
    """A team that no other test knows."""
    return uuid4()

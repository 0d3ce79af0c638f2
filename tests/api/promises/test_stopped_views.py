"""B8: what needs a view whose table is gone is a 503 that says so.

All else goes on; a rebuild mends it.
"""

from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from api.http.problems import VIEW_STOPPED
from projections.registry import PROJECTIONS
from tests.api.expected import assert_problem, create
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service, until

pytestmark = pytest.mark.long

READS: Final = {
    "scim_tokens": ("/scim-token", "/scim-token/{id}", "/scim-token?as_of={now}"),
    "audit_trail": ("/audit", "/scim-token/{id}/events", "/events", "/scim-token?as_of={now}"),
    "usage": ("/scim-token/{id}/usage",),
    "token_sources": ("/scim-token?new_source_since=2021-08-10T10:00:00Z",),
}
"""By the view that answers them."""


PROXY: Final = {"SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1"}


def present(service: RunningService, token: dict[str, str]) -> None:
    """Use the token, from an address that the service is told."""
    headers = {"Authorization": f"Bearer {token['token']}", "X-Forwarded-For": "192.0.2.1"}
    assert service.client.get("/scim/v2/Users", headers=headers).status_code == 501


def get(service: RunningService, admin: Caller, path: str, token: dict[str, str]) -> httpx.Response:
    return service.client.get(path.format(id=token["id"], now=token["created_at"]), auth=admin)


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    """For all views: each is rebuilt in the end."""
    with new_database(server) as database, running_service(database, environment=PROXY) as started:
        yield started


@pytest.mark.parametrize("name", [projection.name for projection in PROJECTIONS])
def test_a_view_whose_table_is_dropped_takes_nothing_else_along(
    service: RunningService, name: str
) -> None:
    admin = service.api_token()
    token = create(service, admin)
    present(service, token)
    for paths in READS.values():
        for path in paths:
            assert get(service, admin, path, token).status_code == 200, path
    service.query(f"DROP TABLE views.{name}_v1")
    present(service, token)
    until(lambda: service.client.get("/readyz").json()["status"] == "degraded")
    for view, paths in READS.items():
        for path in paths:
            answer = get(service, admin, path, token)
            if path in READS[name]:
                assert_problem(answer, 503, "unavailable", VIEW_STOPPED)
                assert "retry-after" not in answer.headers
            else:
                # The token itself is looked up first: nothing of it can be told without its view.
                assert answer.status_code == 200 or name == "scim_tokens", (view, path, answer.text)

    assert service.client.post(f"/projections/{name}/rebuild", auth=admin).status_code == 202
    until(lambda: service.client.get("/readyz").json()["status"] == "ready")
    for path in READS[name]:
        assert get(service, admin, path, token).status_code == 200

"""A database that is some way off."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import uuid4

import httpx
import pytest

from api.doctor.network import FAR_MS
from tests.api.expected import create, use
from tests.conftest import Database
from tests.faults.proxy import proxy_thread
from tests.presenting import UNLIMITED
from tests.service import Caller, RunningService, running_service

CALLERS: Final = 8
CALLS: Final = 48


def answers(call: Callable[[int], httpx.Response]) -> set[int]:
    with ThreadPoolExecutor(CALLERS) as threads:
        return {answer.status_code for answer in threads.map(call, range(CALLS))}


@pytest.mark.long
def test_where_doctor_begins_to_warn_every_call_is_answered(database: Database) -> None:
    with proxy_thread(database.app) as proxy:
        through = Database(database.owner, proxy.conninfo)
        with running_service(through, environment=UNLIMITED) as service:
            admin = service.api_token()
            secret = create(service, admin)["token"]
            proxy.tell(lambda proxy: setattr(proxy, "delay_s", FAR_MS / 1000))
            assert answers(lambda _: use(service, secret)) == {501}
            assert answers(lambda _: made(service, admin)) == {201}
            assert answers(lambda _: service.client.get("/scim-token", auth=admin)) == {200}


def made(service: RunningService, admin: Caller) -> httpx.Response:
    ask = {"team_id": str(uuid4()), "name": "Okta"}
    return service.client.post("/scim-token", json=ask, auth=admin)

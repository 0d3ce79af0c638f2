"""Two services revoke the last two managers of API tokens at the same time: one of them stays."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final

import httpx
import pytest

from domain.api_token.permissions import Permission
from tests.conftest import new_database
from tests.domain.eventstore.consistency import assert_consistent
from tests.service import Caller, RunningService, running_service

pytestmark = pytest.mark.long

ROUNDS: Final = 25


@pytest.fixture
def services(server: str) -> Iterator[tuple[RunningService, RunningService]]:
    """Of one ledger, without any API token that is good."""
    with (
        new_database(server) as database,
        running_service(database) as one,
        running_service(database) as other,
    ):
        (first,) = one.command(lambda ledger: ledger.api_tokens())
        one.command(lambda ledger: ledger.revoke_api_token(first.id))
        yield one, other
        assert_consistent(database)


def test_of_two_managers_that_are_revoked_at_once_one_stays(
    services: tuple[RunningService, RunningService],
) -> None:
    staying = services[0].api_token(Permission.API_TOKENS_MANAGE)
    together = Barrier(2)

    def revoke(service: RunningService, manager: Caller) -> httpx.Response:
        together.wait(timeout=30)
        return service.client.delete(f"/api-token/{manager.id}", auth=manager)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            managers = (staying, services[1].api_token(Permission.API_TOKENS_MANAGE))
            answers = list(pool.map(revoke, services, managers))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
            assert {answer.json().get("type") for answer in answers} == {
                *(None, "/problems/last-manager"),
            }
            staying = managers[[answer.status_code for answer in answers].index(409)]
            for service in services:
                assert service.client.get("/api-token", auth=staying).status_code == 200

"""What a request leaves that waits in vain for a view: nothing."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.api.left_behind.service import A_FEW, World, ask, left_by, world_on
from tests.api.server.serving import connect
from tests.conftest import catch_up, new_database
from tests.raw_http import request
from tests.turns import by_turns

BEHIND: Final = {
    "a page": "/scim-token",
    "a page of the trail": "/audit",
    "lines": "/audit?format=ndjson",
    "a table": "/audit?format=csv",
    "a token's use": "/scim-token/{id}/usage",
}


def asked_with(world: World, secret: str, method: str, path: str) -> int:
    question = request(method, path.format(id=world.token_id), authorization=world.secrets[secret])
    with connect(world.address) as client:
        return ask(client, question).status


@pytest.fixture(scope="module")
def behind(server: str) -> Iterator[World]:
    """Its views know nothing of the last event."""
    with new_database(server) as database, world_on(database) as made:
        catch_up(database)
        assert asked_with(made, "admin", "GET", "/scim-token") == 200
        assert asked_with(made, "provider", "GET", "/gateway/nginx") == 200
        yield made


@pytest.mark.parametrize("name", by_turns(BEHIND, one_of=len(BEHIND)))
def test_a_view_that_is_behind(behind: World, name: str) -> None:
    answers: set[int] = set()
    left = left_by(lambda: answers.add(asked_with(behind, "admin", "GET", BEHIND[name])), times=2)
    assert answers == {503}
    assert left.to_collector < A_FEW

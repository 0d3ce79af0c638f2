"""What a request leaves to the garbage collector: nothing, whatever is asked and answered.

What stands in a circle of references waits for the collector, whose passes hold up every request of
the worker: of a creation they took a tenth.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest

from tests.api.left_behind.service import A_FEW, World, ask, left_by, world_on
from tests.api.server.serving import connect
from tests.conftest import catch_up, new_database
from tests.raw_http import request
from tests.turns import by_turns


class Asked(NamedTuple):
    """status: of the answer. by: whose secret is presented, None for nobody's."""

    status: int
    method: str
    path: str
    by: str | None = "admin"
    document: Mapping[str, Any] = MappingProxyType({})


NEW: Final = {"team_id": str(uuid4()), "name": "Okta"}
ASKED: Final = {
    "a creation": Asked(201, "POST", "/scim-token", document=NEW),
    "a page": Asked(200, "GET", "/scim-token"),
    "a token": Asked(200, "GET", "/scim-token/{id}"),
    "a page of the past": Asked(200, "GET", "/scim-token?as_of=2026-11-30T00:00:00Z"),
    "a token's trail": Asked(200, "GET", "/scim-token/{id}/events"),
    "a page of the trail": Asked(200, "GET", "/events"),
    "a body that is wrong": Asked(400, "POST", "/scim-token", document={"name": "Okta"}),
    "a view that is not there": Asked(404, "POST", "/projections/none/rebuild"),
    "a query that is wrong": Asked(400, "GET", "/scim-token?limit=many"),
    "a rotation that is too soon": Asked(
        429, "POST", "/scim-token/{id}/rotate", document={"overlap_seconds": 86400}
    ),
    "a token that is not there": Asked(404, "GET", f"/scim-token/{uuid4()}"),
    "a path that is not there": Asked(404, "GET", "/none"),
    "a method that is not there": Asked(405, "PUT", "/scim-token"),
    "which methods are": Asked(204, "OPTIONS", "/scim-token"),
    "nobody's question": Asked(401, "GET", "/scim-token", by=None),
    "a provider's question": Asked(401, "GET", "/scim-token", by="provider"),
    "a use": Asked(200, "GET", "/gateway/nginx", by="provider"),
    "nobody's use": Asked(401, "GET", "/gateway/nginx", by=None),
    "a use with garbage": Asked(401, "GET", "/gateway/nginx", by="garbage"),
    "a use of an unknown secret": Asked(401, "GET", "/gateway/nginx", by="unknown"),
    "health": Asked(200, "GET", "/healthz", by=None),
    "readiness": Asked(200, "GET", "/readyz", by=None),
    "verification": Asked(200, "POST", "/verify", document={"token": "anything"}),
    "views": Asked(200, "GET", "/projections"),
    "metrics": Asked(200, "GET", "/metrics"),
    "a page of the console": Asked(303, "GET", "/console/tokens", by=None),
    "the sign-in": Asked(200, "GET", "/console/sign-in", by=None),
}


@pytest.fixture(scope="module")
def world(server: str) -> Iterator[World]:
    with new_database(server) as database, world_on(database) as made:
        yield made


@pytest.mark.parametrize("name", by_turns(ASKED, one_of=3))
def test_nothing_is_left_to_the_collector(world: World, name: str) -> None:
    asked = ASKED[name]
    answers: set[int] = set()
    secret = None if asked.by is None else world.secrets[asked.by]
    question = request(
        asked.method,
        asked.path.format(id=world.token_id),
        authorization=secret,
        **asked.document,
    )
    with connect(world.address) as client:
        ask(client, question)
        catch_up(world.database)
        left = left_by(lambda: answers.add(ask(client, question).status))
    assert answers == {asked.status}
    assert left.to_collector < A_FEW

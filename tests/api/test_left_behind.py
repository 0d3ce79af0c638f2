"""What a request leaves to the garbage collector: nothing, whatever is asked and answered.

What stands in a circle of references waits for the collector, whose passes hold up every request of
the worker: of a creation they took a tenth.
"""

import gc
import re
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest
import uvloop

from api.app import build
from api.server.protocol import StrictHttpProtocol
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.secret import SecretKind, mint
from tests.api.server.serving import connect, serving
from tests.conftest import TESTS_KEY, Database, catch_up, new_database, open_ledger
from tests.raw_http import request

TIMES: Final = 20
A_FEW: Final = TIMES // 2
"""Objects of other threads, and of what is made now and then."""
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class World(NamedTuple):
    """A service in this process; what may be asked for, by name."""

    address: tuple[str, int]
    database: Database
    secrets: dict[str, str]
    token_id: str


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
    async def made(database: Database) -> tuple[dict[str, str], str]:
        async with open_ledger(database.app) as ledger:
            _, admin = await ledger.create_api_token(
                NewApiToken(uuid4(), None, tuple(Permission), None)
            )
            token, provider = await ledger.create_scim_token(
                NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
            )
        secrets = {
            "admin": admin,
            "provider": provider,
            "unknown": mint(SecretKind.SCIM_LIVE, bytes(32)),
        }
        shown = {name: secret.reveal() for name, secret in secrets.items()}
        return {**shown, "garbage": "garbage"}, str(token.id)

    with new_database(server) as database:
        secrets, token_id = uvloop.run(made(database))
        app = build(Settings(database_url=database.app, pepper=TESTS_KEY))
        with serving(StrictHttpProtocol, app, lifespan="on") as address:
            yield World(address, database, secrets, token_id)


def ask(client: socket.socket, question: bytes) -> int:
    """The status of the answer, which is read to its end."""
    client.sendall(question)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length, status = _LENGTH.search(head), _STATUS.match(head)
    left = int(length[1]) - len(body) if length and not question.startswith(b"OPTIONS") else 0
    while left:
        left -= len(client.recv(left))
    assert status is not None
    return int(status[1])


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_nothing_is_left_to_the_collector(world: World, asked: Asked) -> None:
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
        ask(client, question)  # what is made once is made
        gc.collect()
        gc.disable()
        try:
            answers = {ask(client, question) for _ in range(TIMES)}
            left = gc.collect()
        finally:
            gc.enable()
    assert answers == {asked.status}
    assert left < A_FEW

"""A body that a route does not read is refused: whoever sends one means something by it."""

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.api.expected import create
from tests.service import Caller, RunningService

CHANGING: Final = ("post", "put", "patch", "delete")
UNREAD: Final = {
    "malformed": (b"{nope", 400),
    "a reason": (b'{"reason": "leaver"}', 400),
    "an array": (b"[]", 400),
    "a form": (b"reason=leaver", 400),
    "too long": (b"x" * 200_000, 413),
}
SILENT: Final = {"none": b"", "blanks": b" \r\n", "an empty object": b"{}"}


def without_body(service: RunningService) -> Iterator[tuple[str, str]]:
    """Method and path of the operations that change something and are asked without a body."""
    document: dict[str, Any] = service.client.get("/docs/openapi.json").json()
    for path, item in document["paths"].items():
        for method in CHANGING:
            if method in item and "requestBody" not in item[method]:
                yield method.upper(), path


def test_there_are_such_routes(service: RunningService) -> None:
    assert set(without_body(service)) >= {
        ("DELETE", "/scim-token/{token_id}"),
        ("DELETE", "/api-token/{token_id}"),
        ("POST", "/projections/{name}/retry"),
    }


@pytest.mark.parametrize("sent", UNREAD)
def test_a_body_that_nobody_reads_is_refused_and_nothing_changes(
    service: RunningService, admin: Caller, sent: str
) -> None:
    body, status = UNREAD[sent]
    token = create(service, admin)
    for method, path in without_body(service):
        asked = path.format(token_id=token["id"], name="usage")
        answer = service.client.request(method, asked, auth=admin, content=body)
        assert answer.status_code == status, (method, path)
    answer = service.client.get(f"/scim-token/{token['id']}", auth=admin)
    assert answer.json() == {name: token[name] for name in token if name != "token"}


@pytest.mark.parametrize("sent", SILENT)
def test_one_that_says_nothing_is_none(service: RunningService, admin: Caller, sent: str) -> None:
    path = f"/scim-token/{create(service, admin)['id']}"
    answer = service.client.request("DELETE", path, auth=admin, content=SILENT[sent])
    assert answer.status_code == 200


def test_without_a_good_token_it_is_not_looked_at(service: RunningService) -> None:
    answer = service.client.request("DELETE", f"/scim-token/{uuid4()}", content=b"{nope")
    assert answer.status_code == 401

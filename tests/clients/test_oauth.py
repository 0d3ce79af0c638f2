"""A client of OAuth that knows nothing of us, Authlib: RFC 7662 and RFC 7009."""

import base64
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session

from domain.api_token.permissions import Permission
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service

NAMES: Final = ["gateway", "", "häuser der IT", "a%3Ab c+d", str(uuid4())]
"""Of clients: whoever asks is known by the API token alone."""


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    with new_database(server) as database, running_service(database) as started:
        yield started


@pytest.fixture(scope="module")
def caller(service: RunningService) -> Caller:
    return service.api_token()


def create(service: RunningService, caller: Caller) -> dict[str, Any]:
    body = {"team_id": str(uuid4()), "name": "Okta"}
    answer = service.client.post("/scim-token", json=body, auth=caller)
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()
    return token


def client(secret: str, name: str = "gateway") -> OAuth2Session:
    made = OAuth2Session(name, secret)
    made.trust_env = False
    return made


def introspected(service: RunningService, asking: OAuth2Session, token: str) -> requests.Response:
    answer: requests.Response = asking.introspect_token(f"{service.url}/introspect", token=token)
    return answer


def test_it_introspects_and_revokes(service: RunningService, caller: Caller) -> None:
    token = create(service, caller)
    for name in NAMES:
        with client(caller.secret, name) as asking:
            answer = introspected(service, asking, token["token"])
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert (told["active"], told["client_id"]) == (True, token["team_id"])
    with client(caller.secret) as asking:
        asking.revoke_token(f"{service.url}/revoke", token=token["token"]).raise_for_status()
        assert introspected(service, asking, token["token"]).json() == {"active": False}
        assert introspected(service, asking, "x" * 59).json() == {"active": False}


def test_who_asks_is_told_in_the_scheme_that_it_spoke(
    service: RunningService, caller: Caller
) -> None:
    """RFC 6749 §5.2. Nobody else is: a browser would ask for a password."""
    token = create(service, caller)["token"]
    for secret in (caller.secret[:-1], token, "x:y"):
        with client(secret) as asking:
            answer = introspected(service, asking, token)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert secret not in answer.text
    bare = service.client.post("/introspect", data={"token": token})
    assert bare.headers["www-authenticate"] == 'Bearer realm="scim-ledger"'
    lacking = service.api_token(Permission.AUDIT_READ)
    with client(lacking.secret) as asking:
        assert introspected(service, asking, token).status_code == 403
    elsewhere = service.api_token(teams=[uuid4()])
    with client(elsewhere.secret) as asking:
        assert introspected(service, asking, token).json() == {"active": False}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/scim-token"), ("POST", "/verify"), ("GET", "/metrics"), ("GET", "/whoami")),
        *(("GET", "/scim/v2/Users"), ("GET", "/gateway/forward"), ("POST", "/introspection")),
    ],
)
def test_a_password_is_taken_nowhere_else(
    service: RunningService, caller: Caller, method: str, path: str
) -> None:
    """What a browser keeps for a host would be sent along with each of its requests."""
    token = create(service, caller)["token"]
    for secret in (caller.secret, token):
        sent = base64.b64encode(f"x:{secret}".encode()).decode()
        answer = service.client.request(method, path, headers={"Authorization": f"Basic {sent}"})
        assert answer.status_code == 401
        assert not answer.headers["www-authenticate"].startswith("Basic")

"""What is under test: something that stands between an identity provider and a SCIM service."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.gateways.echo import Reached, Recorder
from tests.service import Caller, RunningService, until

IDENTITY: Final = ("x-scim-team-id", "x-scim-token-id", "x-scim-use-id")
CLIENT_ADDRESS: Final = "127.0.0.2"
"""Of the tests' client; the fronts have 127.0.0.1, and the ledger trusts that one alone."""
SCIM_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
Start = Callable[[str, Recorder], AbstractContextManager[str]]
"""Starts a front before a ledger's URL, its backend remembering there; gives the front's URL."""


@dataclass(frozen=True)
class Front:
    """One of them, running.

    door: its name in the ledger's trail. client: to it, without credentials. is_detail_kept:
    whether the ledger's own words reach the client.
    """

    name: str
    door: str
    client: httpx.Client
    recorder: Recorder
    is_detail_kept: bool = True

    def ask(
        self, path: str, token: str | None = None, *, method: str = "GET", **more: Any
    ) -> httpx.Response:
        """One request. Headers may repeat a name: a sequence of pairs."""
        headers = list(more.pop("headers", ()))
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        return self.client.request(method, path, headers=headers, **more)

    def speak(self, *requests: Sequence[str]) -> bytes:
        """Requests without a body on one connection, each after the answer to the one before.

        A request is its lines. Returns the last answer's first bytes; empty where the front closed.
        """
        url = self.client.base_url
        answer = b""
        address = (url.host, url.port or 80)
        with suppress(ConnectionError), socket.create_connection(address, timeout=20) as connection:
            for lines in requests:
                connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
                answer = connection.recv(65_536)
        return answer

    def reached(self, path: str) -> Reached:
        """The one request to the path that reached the backend."""
        (reached,) = self.recorder.to(path)
        return reached


@dataclass(frozen=True)
class Issued:
    """A SCIM token made for one test."""

    id: str
    team_id: str
    secret: str


@dataclass(frozen=True)
class Ledger:
    """The real service, and what tests ask it."""

    service: RunningService
    admin: Caller

    def issue(self) -> Issued:
        """A new token of a new team."""
        ask = {"team_id": str(uuid4()), "name": "Gateway"}
        made = (
            self.service.client.post("/scim-token", json=ask, auth=self.admin)
            .raise_for_status()
            .json()
        )
        return Issued(made["id"], made["team_id"], made["token"])

    def revoke(self, token: Issued) -> None:
        """From now on it opens nothing."""
        self.service.client.delete(f"/scim-token/{token.id}", auth=self.admin).raise_for_status()

    def restrict(self, token: Issued, *networks: str) -> None:
        """From now on it is good from these networks alone."""
        path = f"/scim-token/{token.id}/networks"
        ask = {"networks": networks}
        self.service.client.put(path, json=ask, auth=self.admin).raise_for_status()

    def last_used_at(self, token: Issued) -> str | None:
        """As the documented resource says."""
        found = (
            self.service.client.get(f"/scim-token/{token.id}", auth=self.admin)
            .raise_for_status()
            .json()
        )
        at: str | None = found["last_used_at"]
        return at

    def uses(self, token: Issued) -> Sequence[Mapping[str, Any]]:
        """The presentation of each recorded use, oldest first."""
        rows = self.service.query(
            "SELECT state FROM ledger.events WHERE originator_id = %s "
            "AND topic = 'scim_token.used.v1'"
            " ORDER BY originator_version",
            token.id,
        )
        return [json.loads(bytes(state))["presentation"] for (state,) in rows]


@contextmanager
def front_of(
    start: Start, ledger_url: str, *, name: str, door: str, **traits: bool
) -> Iterator[Front]:
    """A front before a ledger, with a backend of its own."""
    recorder = Recorder()
    transport = httpx.HTTPTransport(local_address=CLIENT_ADDRESS)
    with (
        start(ledger_url, recorder) as url,
        httpx.Client(base_url=url, timeout=20, trust_env=False, transport=transport) as client,
    ):
        until(
            lambda: client.get("/scim/v2/Users").status_code == 401,
            what=f"{name} asking the ledger",
        )
        yield Front(name, door, client, recorder, **traits)


def assert_refused(answer: httpx.Response, status: int, *, challenge: str | None = None) -> None:
    """A refusal as SCIM clients expect it, whole."""
    assert answer.status_code == status, answer.text
    assert set(answer.headers.get_list("content-type")) <= {"application/scim+json"}
    assert answer.headers.get_list("www-authenticate") == ([challenge] if challenge else [])
    if answer.request.method != "HEAD":
        assert "content-type" in answer.headers  # Envoy leaves it out where there is no body
        body = answer.json()
        assert (body["schemas"], body["status"]) == ([SCIM_ERROR], str(status))
        assert body["detail"]
    else:
        assert not answer.content

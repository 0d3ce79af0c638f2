"""Every door of the edge, as a client sees it:
a secret in; whether it was let in, and as whom, out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import httpx

from api.doors.gateways import ROOT as GATEWAYS
from api.doors.scim_messages import ROOT as SCIM
from domain.secret import Secret

Ask: TypeAlias = Callable[[httpx.Client, Secret, Secret], httpx.Response]


class LetIn(NamedTuple):
    """Whose secret it was, as the door told."""

    team_id: UUID
    token_id: UUID
    use_id: UUID


@dataclass(frozen=True)
class Door:
    """name: in the trail.

    ask: how a client presents a secret, and an API token where one is needed.

    told: what a yes tells.

    source: the address of the client, where the door knows it.
    """

    name: str
    ask: Ask
    told: Callable[[httpx.Response], LetIn | None]
    source: str | None = None


def _bearer(secret: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret.reveal()}"}


def _get(path: str, headers: Mapping[str, str] = MappingProxyType({})) -> Ask:
    """A request that presents the secret itself."""

    def ask(client: httpx.Client, secret: Secret, _: Secret) -> httpx.Response:
        return client.get(path, headers={**headers, **_bearer(secret)})

    return ask


def _verify(source: str | None = None) -> Ask:
    """A question about a client at an address."""

    def ask(client: httpx.Client, secret: Secret, caller: Secret) -> httpx.Response:
        told = {"token": secret.reveal(), "source": source}
        return client.post("/verify", json=told, headers=_bearer(caller))

    return ask


def _introspect(client: httpx.Client, secret: Secret, caller: Secret) -> httpx.Response:
    return client.post("/introspect", data={"token": secret.reveal()}, headers=_bearer(caller))


def _nothing(_: httpx.Response) -> None:
    return None


def _headers(answer: httpx.Response) -> LetIn:
    return LetIn(*(UUID(answer.headers[f"x-scim-{name}-id"]) for name in ("team", "token", "use")))


def _document(token: str) -> Callable[[httpx.Response], LetIn]:
    return lambda answer: LetIn(
        *(UUID(answer.json()[name]) for name in ("team_id", token, "use_id"))
    )


_NGINX: Final = {"X-Original-URI": "/scim/v2/Users", "X-Original-Method": "GET"}
_FORWARD: Final = {"X-Forwarded-Uri": "/scim/v2/Users", "X-Forwarded-Method": "PUT"}

SOURCES: Final = ("192.0.2.7", "198.51.100.7", "2001:db8::7")
ALL: Final = (
    Door("scim", _get(f"{SCIM}/ResourceTypes"), _nothing),
    Door("nginx", _get(f"{GATEWAYS}/nginx", _NGINX), _headers),
    Door("forward", _get(f"{GATEWAYS}/forward", _FORWARD), _headers),
    Door("envoy", _get(f"{GATEWAYS}/envoy/scim/v2/Groups/1"), _headers),
    Door("verify", _verify(), _document("token_id")),
    *(Door("verify", _verify(each), _document("token_id"), each) for each in SOURCES),
    Door("introspect", _introspect, _document("sub")),
)


def is_let_in(answer: httpx.Response) -> bool:
    """A yes. A no tells nobody's ids."""
    if answer.request.method == "POST":  # asked by a service, not by the client itself
        assert answer.status_code == 200
        active: bool = answer.json()["active"]
        assert active or answer.json().keys() <= {"active", "reason"}
        return active
    assert answer.status_code in {200, 401}
    assert answer.status_code == 200 or not any(
        name.startswith("x-scim-") for name in answer.headers
    )
    return answer.status_code == 200

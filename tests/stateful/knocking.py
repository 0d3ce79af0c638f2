"""The doors of the edge around a ledger of this process: a request in, status and headers out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.doors import Doors
from api.gateways import ROOT as GATEWAYS
from api.gateways import GatewayDoors
from api.rate_limit import RateLimits
from api.refusals import RefusalCounter
from api.scim.door import ScimDoor
from api.scim.messages import ROOT as SCIM
from api.source import ClientSources
from domain.ledger import TokenLedger
from domain.secret import Secret


@dataclass(frozen=True)
class Door:
    """name: in the trail. path, headers: of a request at it that a good token is answered 200 to."""

    name: str
    path: str
    headers: Mapping[str, str]


ALL: Final = (
    Door("scim", f"{SCIM}/ResourceTypes", {}),
    Door("nginx", f"{GATEWAYS}/nginx", {"x-original-uri": "/scim/v2/Users", "x-original-method": "GET"}),
    Door(
        "forward", f"{GATEWAYS}/forward", {"x-forwarded-uri": "/scim/v2/Users", "x-forwarded-method": "PUT"}
    ),
    Door("envoy", f"{GATEWAYS}/envoy/scim/v2/Groups/1", {}),
)


async def knock(ledger: TokenLedger, door: Door, secret: Secret) -> tuple[int, dict[str, str]]:
    """Present a secret at a door; the status and the headers of its answer."""
    doors = Doors(
        ledger,
        sources=ClientSources(),
        limits=RateLimits(),
        refusals=RefusalCounter(ledger, clock=ledger.sources.clock, new_id=ledger.sources.new_id),
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {**door.headers, "authorization": f"Bearer {secret.reveal()}"}
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": door.path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    application = ScimDoor(doors) if door.name == "scim" else GatewayDoors(doors)
    await application(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}

"""What the ledger records of a call of the administrative API: caller, source and route."""

from typing import Final, TypeAlias

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.types import HTTPScope

from api.doors.client_address import ClientAddresses
from api.doors.decide import user_agent_of
from api.http.json_body import StrictRequest
from api.service import InjectedService
from domain.authority import ApiCall
from domain.scim_token import Presentation

DOOR: Final = "api"
_RESOURCES: Final = frozenset(
    {
        "scim-token",
        "api-token",
        "audit",
        "events",
        "projections",
        "metrics",
        "verify",
        "introspect",
        "docs",
    }
)
_WORDS: Final = _RESOURCES | {"rotate", "usage", "rebuild", "retry"}
_DEPTH: Final = 4


InjectedCall: TypeAlias = NamedDependency[SkipValidation[ApiCall]]
"""The parameter `call` of a handler."""


def call_of(request: StrictRequest, service: InjectedService) -> ApiCall:
    """The caller's word for a command, and where it came from."""
    source = service.doors.sources.address(request.scope)
    return ApiCall(request.user.api_token.id, source, user_agent_of(request.scope))


def presentation_of(scope: HTTPScope, sources: ClientAddresses) -> Presentation:
    """How an API token was presented."""
    return Presentation(
        door=DOOR,
        source=sources.address(scope),
        user_agent=user_agent_of(scope),
        method=scope["method"],
        path_class=route_class(scope["path"]),
    )


def route_class(path: str) -> str:
    """A path reduced to its route, e.g.

    "scim-token/{id}/rotate": only words of ours are kept of it.
    """
    parts = path.strip("/").split("/", _DEPTH)[:_DEPTH]
    if parts[0] not in _RESOURCES:
        return "other"
    return "/".join(part if part in _WORDS else "{id}" for part in parts)

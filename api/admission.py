"""Check a request before its handler runs: its permission first, then its parameters."""

from collections.abc import Iterable
from typing import Any, Final

from litestar import Request
from litestar.routes import BaseRoute, HTTPRoute

from api.http.json_body import refuse_body
from api.http.parameters import check_parameters
from domain.api_token.permissions import Permission
from domain.eventstore.lookups.api_tokens import Caller

REQUIRES: Final = "requires"
NOTHING: Final = "nothing"
FOR_ANYONE: Final = {REQUIRES: NOTHING}
"""The `opt` of a public route, which the edge lets anybody in to."""


def requires(permission: Permission | None) -> dict[str, Any]:
    """The `opt` of a route or a controller: what its caller's API token must allow.

    permission: None where any good API token will do.
    """
    return {REQUIRES: permission}


async def admit(request: Request[Caller, Any, Any]) -> None:
    """The hook `before_request`. Raises Unauthenticated, PermissionDenied, BadRequest.

    Without a caller the edge has let the request through: the path is public. A hook and no guard,
    since the framework copies the route's handler for each guard of each request.
    """
    if "user" in request.scope:
        caller = request.user
        permission = request.route_handler.opt[REQUIRES]
        if isinstance(permission, Permission):
            caller.api_token.authorise(permission, at=caller.at)
    check_parameters(request)
    await refuse_body(request)


def require_declarations(routes: Iterable[BaseRoute]) -> None:
    """Raise ValueError for a route that does not declare what it requires: `requires` or
    `FOR_ANYONE`. The framework's answers to OPTIONS are never reached.
    """
    for route in routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if handler.http_methods != {"OPTIONS"} and REQUIRES not in handler.opt:
                raise ValueError(f"{route.path_format} does not declare what it requires")

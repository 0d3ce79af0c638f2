"""Check a request before its handler runs: its permission first, then its parameters."""

from typing import Any, Final

from litestar import Request

from api.http.json_body import refuse_body
from api.http.parameters import check_parameters
from domain.api_token.permissions import Permission
from domain.eventstore.lookups.api_tokens import Caller

REQUIRES: Final = "requires"


def requires(permission: Permission | None) -> dict[str, Any]:
    """The `opt` of a route or a controller: what its caller's API token must allow.

    permission: None where any good API token will do.
    """
    return {REQUIRES: permission}


async def admit(request: Request[Caller, Any, Any]) -> None:
    """The hook `before_request`. Raises Unauthenticated, PermissionDenied, BadRequest.

    Without a caller the edge has let the request through: the path is public. A route that has a
    caller and declares nothing fails for everyone. A hook and no guard, since the framework copies
    the route's handler for each guard of each request.
    """
    if "user" in request.scope:
        caller = request.user
        permission = request.route_handler.opt[REQUIRES]
        if permission is not None:
            caller.api_token.authorise(permission, at=caller.at)
    check_parameters(request)
    await refuse_body(request)

"""What the ledger is told of a call of the administrative API: caller, source, route and key."""

from hashlib import sha256
from typing import Annotated, Final, TypeAlias
from uuid import uuid5

from litestar.di import NamedDependency
from litestar.params import HeaderParameter, SkipValidation
from litestar.types import HTTPScope

from api.doors.client_address import ClientAddresses
from api.doors.decide import user_agent_of
from api.errors import BadRequest, FieldError
from api.http.json_body import StrictRequest
from api.service import InjectedService
from domain.authority import ApiCall
from domain.commands import CommandKey
from domain.scim_token.events import Presentation

DOOR: Final = "api"
_RESOURCES: Final = frozenset(
    {
        "scim-token",
        "api-token",
        "policy",
        "audit",
        "events",
        "projections",
        "metrics",
        "verify",
        "whoami",
        "introspect",
        "leak-report",
        "docs",
        "console",
    }
)
_WORDS: Final = _RESOURCES | {
    *("revoke", "suspend", "resume", "rotate", "complete", "cancel", "secrets"),
    *("usage", "rebuild", "retry", "setup-link", "networks"),
    *("github", "gitlab", "v1", "revoke_tokens"),
}
_DEPTH: Final = 4
KEY_MAX_LENGTH: Final = 255


InjectedCall: TypeAlias = NamedDependency[SkipValidation[ApiCall]]
"""The parameter `call` of a handler."""


def call_of(request: StrictRequest, service: InjectedService) -> ApiCall:
    """The caller's word for a command, and where it came from."""
    source = service.doors.client_addresses.address(request.scope)
    token, agent = request.user.api_token, user_agent_of(request.scope)
    return ApiCall(token.id, source, agent, request.user.digests, token.session_of)


IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=f"Up to {KEY_MAX_LENGTH} printable characters: "
        "for a day, a repeated call has no second effect.",
        required=False,
        schema_extra={
            "minLength": 1,
            "maxLength": KEY_MAX_LENGTH,
            "pattern": r"^[ -~\xa1-\xac\xae-\xff]*$",  # as `str.isprintable`, in a field
        },
    ),
]


InjectedKey: TypeAlias = NamedDependency[SkipValidation[CommandKey | None]]
"""The parameter `key` of a handler."""


async def command_key(
    request: StrictRequest, call: InjectedCall, idempotency_key: IdempotencyKey = None
) -> CommandKey | None:
    """One command per caller and Idempotency-Key; the request's digest tells its reuse."""
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= KEY_MAX_LENGTH or not idempotency_key.isprintable():
        raise BadRequest(
            "The Idempotency-Key is not valid.",
            [FieldError("Idempotency-Key", f"must be 1 to {KEY_MAX_LENGTH} printable characters")],
        )
    asked = request.scope["path"].encode() + b"\0" + await request.body()
    return CommandKey(uuid5(call.api_token_id, idempotency_key), sha256(asked).digest())


def presentation_of(scope: HTTPScope, client_addresses: ClientAddresses) -> Presentation:
    """How an API token was presented."""
    return Presentation(
        door=DOOR,
        source=client_addresses.address(scope),
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

"""`/scim/v2/*`: raw ASGI, so that every method gets here and no body is touched."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from litestar.types import HTTPScope, Receive, Send

from api.doors import scim_messages
from api.doors.decide import Asked, Doors, Refused, deny, identity
from api.doors.scim.target import PLAINLY, NotPlain, below_root
from api.http.asgi_answer import respond

_OPEN: Final = "ServiceProviderConfig"
_READS: Final = "GET, HEAD"


Forward: TypeAlias = Callable[
    [HTTPScope, Receive, Send, Sequence[tuple[bytes, bytes]]], Awaitable[None]
]
"""What stands behind the door: answers an authenticated request; last, its identity's headers."""


class ScimDoor:
    """Authentication before routing and validation:
    without a good token, every path and method is 401.

    The one exception is our own ServiceProviderConfig, which RFC 7643 §5 wants readable without a
    token. What stands behind us is never reached without one: there, the documents are its own.
    """

    def __init__(self, doors: Doors, forward: Forward | None = None) -> None:
        self._doors = doors
        self._forward = forward

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            path = below_root(scope).decode().strip("/")
        except NotPlain:
            path = None
        if self._forward is None and path == _OPEN and not _has_authorization(scope):
            await self._discover(scope, send, path)
            return
        decision = await self._doors.authenticate(scope, Asked("scim", scope["method"], path or ""))
        if isinstance(decision, Refused):
            await deny(send, scope, decision)
        elif path is None:
            await _error(send, scope, 400, PLAINLY)
        elif self._forward is None:
            await self._discover(scope, send, path)
        else:
            await self._forward(scope, receive, send, identity(decision))

    async def _discover(self, scope: HTTPScope, send: Send, path: str) -> None:
        name, _, member = path.partition("/")
        if name not in scim_messages.DISCOVERY:
            await _error(send, scope, 501, "No SCIM service stands behind this address.")
        elif scope["method"] not in _READS.split(", "):
            await _error(send, scope, 405, "Discovery is read-only.", allow=_READS)
        elif b"filter=" in scope["query_string"]:
            await _error(send, scope, 403, "Discovery cannot be filtered.")  # RFC 7644 §4
        elif member:
            await _error(send, scope, 404, "There is no such resource.")
        else:
            await _send(send, scope, 200, scim_messages.DISCOVERY[name], {})


def _has_authorization(scope: HTTPScope) -> bool:
    return any(name == b"authorization" for name, _ in scope["headers"])


async def _error(send: Send, scope: HTTPScope, status: int, detail: str, **headers: str) -> None:
    await _send(send, scope, status, scim_messages.error(status, detail), headers)


async def _send(
    send: Send, scope: HTTPScope, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    await respond(
        send, scope, status=status, media_type=scim_messages.MEDIA_TYPE, body=body, headers=headers
    )

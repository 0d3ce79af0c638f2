"""`/gateway/*`: forward authentication for gateways, one dialect per path.

Each path reads its own dialect's headers and ignores the other's: a gateway lets a client's headers
of the other family through, so an endpoint that took whichever is there could be told any method
and address. Nothing is taken from the query (Caddy appends the client's), no body is read, and the
answer is exactly 200: Envoy passes any other 2xx to the client and never calls the backend.
"""

import re
from typing import Final

from litestar.types import HTTPScope, Receive, Send

from api.doors import scim_messages
from api.doors.decide import Asked, Doors, Refused, deny, identity
from api.http.asgi_answer import allow, respond

ROOT: Final = scim_messages.GATEWAYS
_ENVOY: Final = f"{ROOT}/envoy"
_METHOD: Final = re.compile(rb"[A-Za-z]{1,20}")
_NGINX: Final = (b"x-original-method", b"x-original-uri", b"x-original-url")
_FORWARD: Final = (b"x-forwarded-method", b"x-forwarded-uri")
_IGNORED: Final = "headers of another gateway's dialect were ignored"


class GatewayDoors:
    """Raw ASGI, so that every method gets here."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def __call__(self, scope: HTTPScope, _: Receive, send: Send) -> None:
        """One authentication request of a gateway."""
        asked = _asked(scope)
        if asked is None:
            body = scim_messages.error(404, "There is no such gateway door.")
            await respond(
                send, scope, status=404, media_type=scim_messages.MEDIA_TYPE, body=body, headers={}
            )
            return
        decision = await self._doors.authenticate(scope, asked)
        if isinstance(decision, Refused):
            await deny(send, scope, decision)
        else:
            await allow(send, scope, identity(decision))


def _asked(scope: HTTPScope) -> Asked | None:
    path = scope["path"]
    headers = dict(scope["headers"])
    if path == f"{ROOT}/nginx":
        uri = headers.get(b"x-original-uri") or headers.get(b"x-original-url", b"")
        method = headers.get(b"x-original-method", b"")
        return _from_headers("nginx", method, uri, _note(headers, _FORWARD))
    if path == f"{ROOT}/forward":
        uri, method = headers.get(b"x-forwarded-uri", b""), headers.get(b"x-forwarded-method", b"")
        return _from_headers("forward", method, uri, _note(headers, _NGINX))
    if path == _ENVOY or path.startswith(f"{_ENVOY}/"):
        return Asked(
            "envoy", scope["method"], path.removeprefix(_ENVOY), _note(headers, _NGINX + _FORWARD)
        )
    return None


def _from_headers(door: str, method: bytes, uri: bytes, note: str | None) -> Asked:
    word = method.decode("ascii").upper() if _METHOD.fullmatch(method) else "unknown"
    # An origin-form target (RFC 9112 §3.2.1), or from ingress-nginx a whole URL: its end is what
    # counts.
    return Asked(door, word, uri.partition(b"?")[0].decode("latin-1"), note)


def _note(headers: dict[bytes, bytes], others: tuple[bytes, ...]) -> str | None:
    for name in others:
        if name in headers:
            return _IGNORED
    return None

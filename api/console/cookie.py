"""The cookie that holds a session's secret, for the browser alone."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from litestar.datastructures import Cookie
from litestar.types import HTTPScope

from api.doors.client_address import ClientAddresses
from domain.api_token.session import LIFETIME
from domain.secret import MalformedSecretError, Secret, parse

SECURE: Final = "__Host-scim-ledger"
"""The prefix binds it to this host, to https and to every path (RFC 6265bis §4.1.3.2)."""
LOOPBACK: Final = "scim-ledger"
"""On this machine there may be no https, and without that no browser takes the other name."""


def name_of_new(scope: HTTPScope, addresses: ClientAddresses) -> str:
    """What the cookie of a session is called that a form of ours asks for.

    A proxy that the settings do not name, and that hands on nothing, makes a browser elsewhere look
    like one on this machine. Its `Origin` tells that it is on https.
    """
    is_secure = any(
        value.startswith(b"https:") for name, value in scope["headers"] if name == b"origin"
    )
    return SECURE if is_secure or not _seems_local(scope, addresses) else LOOPBACK


def names_of(scope: HTTPScope, addresses: ClientAddresses) -> Sequence[str]:
    """What the cookies may be called that a request's session is in, the better one first."""
    return (SECURE, LOOPBACK) if _seems_local(scope, addresses) else (SECURE,)


def _seems_local(scope: HTTPScope, addresses: ClientAddresses) -> bool:
    """Whether a request came over plain http to an address of this machine, as far as is told."""
    origin = addresses.origin(scope)
    return origin.scheme == "http" and is_loopback(origin.host)


def secret_of(scope: HTTPScope, name: str) -> Secret | None:
    """The secret in the cookie; None without a well-formed one, or where there are two."""
    texts = [
        value.strip()
        for header, line in scope["headers"]
        if header == b"cookie"
        for key, _, value in (pair.partition("=") for pair in line.decode("latin-1").split(";"))
        if key.strip() == name
    ]
    try:
        return parse(texts[0]) if len(texts) == 1 else None
    except MalformedSecretError:
        return None


def holding(name: str, secret: Secret) -> Cookie:
    """The cookie of a new session."""
    return _cookie(name, secret.reveal(), int(LIFETIME.total_seconds()))


def emptied(name: str) -> Cookie:
    """What takes it away."""
    return _cookie(name, "", 0)


def _cookie(name: str, value: str, max_age_s: int) -> Cookie:
    return Cookie(
        key=name,
        value=value,
        path="/",
        max_age=max_age_s,
        secure=name == SECURE,
        httponly=True,
        samesite="strict",
    )


def is_loopback(host: str | None) -> bool:
    """Whether a Host field names the machine that the browser is on."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False

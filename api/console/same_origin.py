"""Changes come from the console's own pages: whatever another site sends is refused."""

from typing import Final

from litestar.types import HTTPScope

from api.console.cookie import is_loopback
from api.doors.client_address import ClientAddresses
from api.errors import BadRequest

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSED: Final = "The form did not come from a page of this console. Open the page again."
PROXY: Final = (
    "If it did, a proxy stands before this service that it does not know: name it in "
    "SCIM_LEDGER_TRUSTED_PROXIES, and have it hand on X-Forwarded-Host and X-Forwarded-Proto."
)
"""No browser of today leaves Sec-Fetch-Site out but over plain http, and tells no other Origin then
than that of the page.
"""
UNTOLD: Final = (
    "Nothing says which page the form came from. A proxy must hand on Sec-Fetch-Site and Origin; "
    "a browser from before 2023 may not send them."
)
NEEDS_HTTPS: Final = (
    "This page was opened over plain http from another machine. There no browser says which page a "
    "form came from, and what is sent can be read on its way: open the page over https."
)


def require_same_origin(scope: HTTPScope, addresses: ClientAddresses) -> None:
    """Raise BadRequest (403) for an unsafe method of another origin.

    The browser says where a request comes from, and a script cannot say otherwise (Fetch Metadata;
    RFC 6454 §7). One that does not tell at all is no browser with a form of ours.
    """
    if scope["method"] in _SAFE:
        return
    site, origin = _only(scope, b"sec-fetch-site"), _only(scope, b"origin")
    told = addresses.origin(scope)
    is_ours = site == "same-origin" if site is not None else bool(origin) and origin == told.url
    if is_ours:
        return
    is_told = site is not None or origin not in {None, "null"}
    if not is_told and is_plain(scope, addresses):
        raise BadRequest(NEEDS_HTTPS, status=403)
    if not is_told:
        raise BadRequest(UNTOLD, status=403)
    raise BadRequest(REFUSED if site is not None else f"{REFUSED} {PROXY}", status=403)


def is_plain(scope: HTTPScope, addresses: ClientAddresses) -> bool:
    """Whether a browser came over plain http from another machine, whose forms are refused.

    One says where its requests come from over https and on its own machine alone (Fetch Metadata
    §2), so that whoever does came so, also through a proxy that the settings do not name.
    """
    told = addresses.origin(scope)
    is_away = told.scheme == "http" and not is_loopback(told.host)
    return is_away and _only(scope, b"sec-fetch-site") is None


def _only(scope: HTTPScope, wanted: bytes) -> str | None:
    """The value of a field; of one that stands there twice, what equals nothing."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return ",".join(values) if values else None

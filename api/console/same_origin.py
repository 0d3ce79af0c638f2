"""Changes come from the console's own pages: whatever another site sends is refused."""

from typing import Final

from litestar.types import HTTPScope

from api.doors.client_address import ClientAddresses
from api.errors import BadRequest

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSED: Final = "The form did not come from a page of this console. Open the page again."


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
    if not is_ours:
        raise BadRequest(REFUSED, status=403)


def _only(scope: HTTPScope, wanted: bytes) -> str | None:
    """The value of a field; of one that stands there twice, what equals nothing."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return ",".join(values) if values else None

"""What a page says of a token at a glance: how it stands, and when it ends."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from api.console.instants import read, relative
from projections.scim_tokens.view import TokenDocument

_SOON: Final = timedelta(days=30)
_VERY_SOON: Final = timedelta(days=7)
_document: Final = msgspec.json.Decoder(TokenDocument)
_documents: Final = msgspec.json.Decoder(list[TokenDocument])


class Ending(NamedTuple):
    """When a token ends. urgency: "soon" within 30 days, "urgent" within 7, "over", or None; of a
    token that is revoked, None.
    """

    at: str
    told: str
    urgency: str | None


class TokenGlance(NamedTuple):
    """state: revoked, expired, suspended, rotating or active: the first that is true."""

    token: TokenDocument
    state: str
    ending: Ending | None


def decode(document: str) -> TokenDocument:
    """A token object of the view."""
    return _document.decode(document)


def decode_all(documents: str) -> list[TokenDocument]:
    """The token objects of a page."""
    return _documents.decode(documents)


def glance(token: TokenDocument, now: datetime, *, rotating: Collection[UUID] = ()) -> TokenGlance:
    """How a token stands at `now`. rotating: tokens that may have two secrets."""
    return TokenGlance(token, _state(token, now, rotating), _ending(token, now))


def _state(token: TokenDocument, now: datetime, rotating: Collection[UUID]) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is not None and read(token.expires_at) <= now:
        return "expired"
    if token.suspended_at is not None:
        return "suspended"
    return "rotating" if token.id in rotating or token.rotation is not None else "active"


def _ending(token: TokenDocument, now: datetime) -> Ending | None:
    if token.expires_at is None:
        return None
    if token.revoked_at is not None:
        return Ending(token.expires_at, relative(token.expires_at, now), None)
    away = read(token.expires_at) - now
    if away <= timedelta(0):
        return Ending(token.expires_at, f"ended {relative(token.expires_at, now)}", "over")
    urgency = "urgent" if away <= _VERY_SOON else "soon" if away <= _SOON else None
    return Ending(token.expires_at, relative(token.expires_at, now), urgency)

"""Opaque page cursors: where a page ended, for which filter, signed so that only ours are taken."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from api.errors import InvalidCursor
from projections.scim_tokens.queries import Place

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAC_BYTES: Final = 16


class Cursors:
    """Makes and reads cursors. key: 32 bytes, the same on every process of the deployment.

    A cursor is a place in the order, not a snapshot: tokens made or revoked meanwhile do not shift
    it. scope, throughout: what the list was filtered by; a cursor is good for that only.
    """

    def __init__(self, key: bytes) -> None:
        # Begun once and copied for each cursor, as for secrets.
        self._begun = hmac.new(key, digestmod="sha256")

    def encode(self, place: Place, *, scope: str) -> str:
        """URL-safe text for a place in a list of tokens."""
        milliseconds = (place.created_at - _EPOCH) // timedelta(milliseconds=1)
        return self._seal(milliseconds.to_bytes(8, "big") + place.id.bytes, scope)

    def decode(self, text: str, *, scope: str) -> Place:
        """Raises InvalidCursor on anything that `encode` did not make for the same scope."""
        packed = self._open(text, scope, size=8 + 16)
        return Place(
            _EPOCH + timedelta(milliseconds=int.from_bytes(packed[:8], "big")),
            UUID(bytes=packed[8:]),
        )

    def encode_position(self, position: int, *, scope: str) -> str:
        """URL-safe text for a position in the ledger."""
        return self._seal(position.to_bytes(8, "big"), scope)

    def decode_position(self, text: str, *, scope: str) -> int:
        """Raises InvalidCursor on anything that `encode_position` did not make
        for the same scope.
        """
        return int.from_bytes(self._open(text, scope, size=8), "big")

    def _seal(self, packed: bytes, scope: str) -> str:
        return self._text(packed + self._mac(packed, scope))

    def _open(self, text: str, scope: str, *, size: int) -> bytes:
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except ValueError:
            raise InvalidCursor from None
        packed, mac = raw[:size], raw[size:]
        if not hmac.compare_digest(mac, self._mac(packed, scope)) or self._text(raw) != text:
            raise InvalidCursor
        return packed

    @staticmethod
    def _text(raw: bytes) -> str:
        return urlsafe_b64encode(raw).decode().rstrip("=")

    def _mac(self, packed: bytes, scope: str) -> bytes:
        mac = self._begun.copy()
        mac.update(packed + sha256(scope.encode()).digest())
        return mac.digest()[:_MAC_BYTES]

"""Opaque page cursors: where a page ended, for which filter, signed so that only ours are taken."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from api.errors import InvalidCursor
from domain.eventstore.lookups.page_end import PageEnd

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAC_BYTES: Final = 16
_canonical: Final = msgspec.json.Encoder(order="deterministic", enc_hook=str)
"""One text for a scope in every process: what `repr` says of a set is another in each."""
T = TypeVar("T")


class Cursors:
    """Makes and reads cursors.

    keys: of 32 bytes each; the first one makes, each is tried to read. require_all_keys: raises
    PepperMismatch where another process of the deployment may have keys that this one lacks.
    A cursor is a place in the order, not a snapshot: tokens made or revoked meanwhile do not shift
    it. scope, throughout: the list, and what it was filtered by; a cursor is good for that only.
    """

    def __init__(
        self, keys: Sequence[bytes], *, require_all_keys: Callable[[], Awaitable[None]]
    ) -> None:
        # Begun once and copied for each cursor, as for secrets.
        self._begun = [hmac.new(key, digestmod="sha256") for key in keys]
        self._require_all_keys = require_all_keys

    async def page_end(self, text: str | None, *, scope: Any) -> PageEnd | None:
        """What `decode` reads of a client's cursor; None for the beginning, without one.

        Raises PepperMismatch in place of InvalidCursor while it may be of a key that is newer.
        """
        return await self._read(self.decode, text, scope)

    async def position(self, text: str | None, *, scope: Any) -> int | None:
        """As `page_end`, of a position in the ledger."""
        return await self._read(self.decode_position, text, scope)

    async def _read(self, decode: Callable[..., T], text: str | None, scope: Any) -> T | None:
        if not text:
            return None
        try:
            return decode(text, scope=scope)
        except InvalidCursor:
            await self._require_all_keys()
            raise

    def encode(self, end: PageEnd, *, scope: Any) -> str:
        """URL-safe text for the end of a page of a list."""
        milliseconds = (end.created_at - _EPOCH) // timedelta(milliseconds=1)
        return self._seal(milliseconds.to_bytes(8, "big") + end.id.bytes, scope)

    def decode(self, text: str, *, scope: Any) -> PageEnd:
        """Raises InvalidCursor on anything that `encode` did not make for the same scope."""
        packed = self._open(text, scope, size=8 + 16)
        return PageEnd(
            _EPOCH + timedelta(milliseconds=int.from_bytes(packed[:8], "big")),
            UUID(bytes=packed[8:]),
        )

    def encode_position(self, position: int, *, scope: Any) -> str:
        """URL-safe text for a position in the ledger."""
        return self._seal(position.to_bytes(8, "big"), scope)

    def decode_position(self, text: str, *, scope: Any) -> int:
        """Raises InvalidCursor on anything that `encode_position` did not make
        for the same scope.
        """
        return int.from_bytes(self._open(text, scope, size=8), "big")

    def _seal(self, packed: bytes, scope: Any) -> str:
        return self._text(packed + self._mac(self._begun[0], packed, scope))

    def _open(self, text: str, scope: Any, *, size: int) -> bytes:
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except ValueError:
            raise InvalidCursor from None
        packed, mac = raw[:size], raw[size:]
        is_ours = any(
            hmac.compare_digest(mac, self._mac(begun, packed, scope)) for begun in self._begun
        )
        if not is_ours or self._text(raw) != text:
            raise InvalidCursor
        return packed

    @staticmethod
    def _text(raw: bytes) -> str:
        return urlsafe_b64encode(raw).decode().rstrip("=")

    @staticmethod
    def _mac(begun: hmac.HMAC, packed: bytes, scope: Any) -> bytes:
        mac = begun.copy()
        mac.update(packed + sha256(_canonical.encode(scope)).digest())
        return mac.digest()[:_MAC_BYTES]

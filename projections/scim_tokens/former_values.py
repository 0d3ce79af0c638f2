"""What a token was called, and when it was to end, before each of its changes: text, made of JSON.

It is asked for by reads of the past alone, and grows with each change, which are few.
"""

from datetime import datetime
from typing import Final

import msgspec

from projections.described import rfc3339


class FormerValues(msgspec.Struct, frozen=True):
    """Name and end as they were until an instant, when they were changed; instants as text."""

    until: str
    name: str
    expires_at: str | None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(list[FormerValues])


def with_another(
    former: str | None, *, until: datetime, name: str, expires_at: datetime | None
) -> str:
    """One change more. former: None where there was none."""
    end = None if expires_at is None else rfc3339(expires_at)
    before = [] if former is None else _decoder.decode(former)
    return _encoder.encode([*before, FormerValues(rfc3339(until), name, end)]).decode()

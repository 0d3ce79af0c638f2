"""The strings of an answer: how instants are written, and how strings are described to clients.

They stay strings: rows are rendered once and sent as they are. What is said of them here is for the
OpenAPI document alone.
"""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec


def one_of(*words: str) -> msgspec.Meta:
    """Of a string that is one of these: `Annotated[str, one_of("live", "stopped")]`."""
    return msgspec.Meta(extra_json_schema={"enum": list(words)})


Instant: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""UTC with exactly three decimals and Z (RFC 3339)."""


EIGHT_HEX_DIGITS: Final = "^[0-9a-f]{8}$"
SecretDigits: TypeAlias = Annotated[str, msgspec.Meta(pattern=EIGHT_HEX_DIGITS)]
"""The id of a secret: see `domain.secret.SecretId`."""


@lru_cache(1024)  # uses that were committed together share their instant
def rfc3339(at: datetime) -> str:
    """UTC with exactly three decimals and Z, also when the milliseconds are zero."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def rfc3339_or_none(at: datetime | None) -> str | None:
    """The same; None for none."""
    return None if at is None else rfc3339(at)

"""How the strings of an answer are described to clients: as instants, or as one of a few words.

They stay strings: rows are rendered once and sent as they are. What is said of them here is for the
OpenAPI document alone.
"""

from typing import Annotated, TypeAlias

import msgspec


def one_of(*words: str) -> msgspec.Meta:
    """Of a string that is one of these: `Annotated[str, one_of("live", "stopped")]`."""
    return msgspec.Meta(extra_json_schema={"enum": list(words)})


Instant: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""UTC with exactly three decimals and Z (RFC 3339)."""

"""The view `usage`: how often each token was used and refused in each hour, by address."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from domain.scim_token.events import Refused, Used
from projections.addresses import address_text
from projections.kinds.row_per_key import RowPerKey
from projections.projection import LogEntry

HOUR: Final = timedelta(hours=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def key_of(token_id: UUID, at: datetime, address: str = "") -> bytes:
    """The row of a token's hour and address, in one key: one index finds a row and a range.

    Token (16 bytes), hour since 1970 (4, big-endian), address (text, empty where it is not known).
    """
    return token_id.bytes + ((at - EPOCH) // HOUR).to_bytes(4, "big") + address.encode()


def hour_of(key: bytes) -> datetime:
    """The first instant of a row's hour."""
    return EPOCH + int.from_bytes(key[16:20], "big") * HOUR


class UsageRow(msgspec.Struct):
    """key: see `key_of`. uses, refusals: how many in that hour, from that address."""

    key: bytes
    uses: int
    refusals: int


def contribution(entry: LogEntry, event: Used | Refused) -> UsageRow:
    """A use counts as often as its event says, a refusal once (one a minute is recorded)."""
    key = key_of(entry.originator_id, entry.at, address_text(event.presentation.source))
    if isinstance(event, Used):
        return UsageRow(key, event.count, 0)
    return UsageRow(key, 0, 1)


PROJECTION: Final = RowPerKey(
    name="usage",
    shape=2,
    row=UsageRow,
    columns={
        "key": "bytea",
        "uses": "integer NOT NULL",
        "refusals": "integer NOT NULL",
    },
    topics=frozenset({Used.topic, Refused.topic}),
    row_of=contribution,
    sums=("uses", "refusals"),
)

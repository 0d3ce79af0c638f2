"""The view `usage`: how often each secret was used and refused in each hour, by address."""

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


UNTOLD: Final = "--------"
"""Stands for the secret's id in rows of events that did not tell which one it was."""


def key_of(token_id: UUID, secret: str | None, at: datetime, address: str = "") -> bytes:
    """The row of a secret's hour and address, in one key: one index finds a row and a range.

    Token (16 bytes), id of the secret (8, digits), hour since 1970 (4, big-endian), address (text,
    empty where it is not known). The secret comes before the hour, so its first and its last use
    are found by looking once.
    """
    return token_id.bytes + (secret or UNTOLD).encode() + hour_key(at) + address.encode()


def token_of(key: bytes) -> UUID:
    """Whose row it is."""
    return UUID(bytes=key[:16])


def hour_key(at: datetime) -> bytes:
    """The part of a key that says which hour it is."""
    return ((at - EPOCH) // HOUR).to_bytes(4, "big")


class UsageRow(msgspec.Struct):
    """key: see `key_of`. uses, refusals: how many in that hour, from that address.

    first_at, last_at: of the uses, None where there was none.
    """

    key: bytes
    uses: int
    refusals: int
    first_at: datetime | None
    last_at: datetime | None


def contribution(entry: LogEntry, event: Used | Refused) -> UsageRow:
    """A use counts as often as its event says, a refusal once (one a minute is recorded)."""
    address = address_text(event.presentation.source)
    key = key_of(entry.originator_id, event.secret, entry.at, address)
    if isinstance(event, Used):
        return UsageRow(key, event.count, 0, entry.at, entry.at)
    return UsageRow(key, 0, 1, None, None)


PROJECTION: Final = RowPerKey(
    name="usage",
    shape=3,
    row=UsageRow,
    columns={
        "key": "bytea",
        "uses": "integer NOT NULL",
        "refusals": "integer NOT NULL",
        "first_at": "timestamptz",
        "last_at": "timestamptz",
    },
    topics=frozenset({Used.topic, Refused.topic}),
    row_of=contribution,
    sums=("uses", "refusals"),
    firsts=("first_at",),
    lasts=("last_at",),
    fillfactor=50,  # uses of an hour rewrite its row: a quarter less where the page has room
)

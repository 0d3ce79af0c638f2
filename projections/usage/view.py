"""The view `usage`: how often each token was used and refused in each hour, by address."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.eventstore.event_registry import EventRegistry
from domain.scim_token import Refused, Used
from projections.addresses import address_text
from projections.projection import LogEntry, Projection

HOUR: Final = timedelta(hours=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KEY, USES, REFUSALS = range(3)


def key_of(token_id: UUID, at: datetime, address: str = "") -> bytes:
    """The row of a token's hour and address:
    packed into one key, so that one index finds a row and a range.

    Token (16 bytes), hour since 1970 (4, big-endian), address (text, empty where it is not known).
    """
    return token_id.bytes + ((at - EPOCH) // HOUR).to_bytes(4, "big") + address.encode()


def hour_of(key: bytes) -> datetime:
    """The first instant of a row's hour."""
    return EPOCH + int.from_bytes(key[16:20], "big") * HOUR


def apply(
    rows: dict[bytes, list[Any]], entries: Iterable[LogEntry], registry: EventRegistry
) -> None:
    """Fold.

    A use counts as often as its event says, a refusal once (at most one a minute is recorded).
    """
    for entry in entries:
        event = registry.decode(entry.topic, entry.state)
        assert isinstance(event, Used | Refused)
        key = key_of(entry.originator_id, entry.at, address_text(event.presentation.source))
        row = rows.setdefault(key, [key, 0, 0])
        if isinstance(event, Used):
            row[USES] += event.count
        else:
            row[REFUSALS] += 1


PROJECTION: Final = Projection(
    name="usage",
    shape=2,
    columns={
        "key": "bytea",
        "uses": "integer NOT NULL",
        "refusals": "integer NOT NULL",
    },
    stored=3,
    indexes={},
    topics=frozenset({Used.topic, Refused.topic}),
    apply=apply,
    merge={
        "uses": "stored.uses + excluded.uses",
        "refusals": "stored.refusals + excluded.refusals",
    },
)

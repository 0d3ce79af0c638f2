"""The view `usage`: how often each token was used and refused in each hour, and from where."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.eventstore.registry import EventRegistry
from domain.scim_token import Refused, Used
from projections.audit_trail import address_of
from projections.projection import LogEntry, Projection

HOUR: Final = timedelta(hours=1)
SOURCES_MAX: Final = 256
"""Addresses kept per row: a row has a bound, whoever holds the token. As many stand for "or more"."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KEY, USES, REFUSALS, SOURCES = range(4)


def key_of(token_id: UUID, at: datetime) -> bytes:
    """The row of a token's hour: both packed into one key, so that one index finds a row and a range."""
    return token_id.bytes + ((at - EPOCH) // HOUR).to_bytes(4, "big")


def hour_of(key: bytes) -> datetime:
    """The first instant of a row's hour."""
    return EPOCH + int.from_bytes(key[16:], "big") * HOUR


def with_source(sources: str, source: str | None) -> str:
    """Addresses separated by blanks, in order of their appearance, with one more unless it is there."""
    address = address_of(source)
    if address is None:
        return sources
    known = sources.split()
    if str(address) in known or len(known) >= SOURCES_MAX:
        return sources
    return " ".join([*known, str(address)])


def _key(entry: LogEntry) -> bytes:
    return key_of(entry.originator_id, entry.at)


def apply(rows: dict[bytes, list[Any]], entries: Iterable[LogEntry], registry: EventRegistry) -> None:
    """Fold. A use counts as often as its event says, a refusal once (at most one a minute is recorded)."""
    for entry in entries:
        event = registry.decode(entry.topic, entry.state)
        assert isinstance(event, Used | Refused)
        key = _key(entry)
        row = rows.setdefault(key, [key, 0, 0, ""])
        if isinstance(event, Used):
            row[USES] += event.count
        else:
            row[REFUSALS] += 1
        row[SOURCES] = with_source(row[SOURCES], event.presentation.source)


PROJECTION: Final = Projection(
    name="usage",
    shape=1,
    columns={
        "key": "bytea",
        "uses": "int NOT NULL",
        "refusals": "int NOT NULL",
        "sources": "text NOT NULL",
    },
    stored=4,
    indexes={},
    topics=frozenset({Used.topic, Refused.topic}),
    key=_key,
    apply=apply,
    derive=lambda _: (),
)

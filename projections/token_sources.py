"""The view `token_sources`: the addresses that each token was used from, and when one of them was new."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from domain.eventstore.registry import EventRegistry
from domain.scim_token import Used
from projections.audit_trail import address_of
from projections.projection import LogEntry, Projection

SOURCES_MAX: Final = 256
"""Addresses remembered per token, the newest ones: one that was forgotten is new again."""

TOKEN_ID, NEW_SOURCE_AT, SOURCES = range(3)


def apply(rows: dict[UUID, list[Any]], entries: Iterable[LogEntry], registry: EventRegistry) -> None:
    """Fold. A token's first address is where it lives, not a new one; each later moves `new_source_at`."""
    for entry in entries:
        event = registry.decode(entry.topic, entry.state)
        assert isinstance(event, Used)
        address = address_of(event.presentation.source)
        if address is None:
            continue
        row = rows.setdefault(entry.originator_id, [entry.originator_id, None, ""])
        known = row[SOURCES].split()
        if str(address) in known:
            continue
        if known:
            row[NEW_SOURCE_AT] = entry.at
        row[SOURCES] = " ".join([*known, str(address)][-SOURCES_MAX:])


PROJECTION: Final = Projection(
    name="token_sources",
    shape=1,
    columns={"token_id": "uuid", "new_source_at": "timestamptz", "sources": "text NOT NULL"},
    stored=3,
    indexes={},
    topics=frozenset({Used.topic}),
    key=attrgetter("originator_id"),
    apply=apply,
    derive=lambda _: (),
)

"""The view `token_sources`: the addresses that each token was used from, and since when."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from domain.eventstore.registry import EventRegistry
from domain.scim_token import Used
from projections.addresses import address_text
from projections.projection import LogEntry, Projection


def key_of(token_id: UUID, address: str) -> bytes:
    """The row of a token's address: one index finds it, and all of a token (`IS_NEW_SINCE`)."""
    return token_id.bytes + address.encode()


IS_NEW_SINCE: Final = (
    "EXISTS (SELECT FROM {token_sources} s WHERE s.key >= uuid_send(id) AND s.key < uuid_send(id) || '\\xff' "
    "HAVING count(*) > 1 AND max(s.first_at) >= %s)"
)
"""SQL: whether the token `id` was used from a new address since some instant.

Its first address is where it lives and not a new one; the last of several is, whenever the first was.
"""


def apply(rows: dict[bytes, list[Any]], entries: Iterable[LogEntry], registry: EventRegistry) -> None:
    """Fold. The first use from an address makes a row, and no later one changes it."""
    for entry in entries:
        event = registry.decode(entry.topic, entry.state)
        assert isinstance(event, Used)
        address = address_text(event.presentation.source)
        if address:
            key = key_of(entry.originator_id, address)
            rows.setdefault(key, [key, entry.at])


PROJECTION: Final = Projection(
    name="token_sources",
    shape=2,
    columns={"key": "bytea", "first_at": "timestamptz NOT NULL"},
    stored=2,
    indexes={},
    topics=frozenset({Used.topic}),
    apply=apply,
    merge={},
)

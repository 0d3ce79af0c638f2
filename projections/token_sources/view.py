"""The view `token_sources`: the addresses that each token was used from, since when, and whether
somebody was told.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.scim_token.events import Used
from domain.scim_token.warnings import FirstUsed, UsedFromNewSource
from projections.addresses import address_text
from projections.kinds.row_per_key import RowPerKey
from projections.projection import LogEntry


def key_of(token_id: UUID, address: str) -> bytes:
    """The row of a token's address: one index finds it, and all of a token (`IS_NEW_SINCE`).

    address: empty for the uses of which it is not known.
    """
    return token_id.bytes + address.encode()


def token_and_address(key: bytes) -> tuple[UUID, str]:
    """What `key_of` was made from."""
    return UUID(bytes=key[:16]), key[16:].decode()


_OF_ID: Final = "s.key > uuid_send(id) AND s.key < uuid_send(id) || '\\xff'"
"""SQL: whether a row `s` of this view is a known address of the token `id`; by the primary key."""

_IS_KNOWN: Final = "octet_length(key) > 16"
"""SQL: whether the address is known."""

IS_NEW_SINCE: Final = (
    f"EXISTS (SELECT FROM {{token_sources}} s WHERE {_OF_ID} "
    "HAVING count(*) > 1 AND max(s.first_at) >= %(new_source_since)s)"
)
"""SQL: whether the token `id` was used from a new address since some instant.

Its first address is where it lives and not a new one; the last of several is, whenever the first
was.
"""

FEW: Final = 20_000
"""No more addresses than these are few, and lead to their tokens.

Of more, some are met on the way.
"""

NEW_SINCE: Final = f"""
    new AS MATERIALIZED (
        SELECT key, encode(substring(key FOR 16), 'hex')::uuid AS id FROM {{token_sources}}
        WHERE {_IS_KNOWN} AND first_at >= %(new_source_since)s ORDER BY first_at LIMIT {FEW + 1}
    ), renewed AS MATERIALIZED (
        SELECT DISTINCT id FROM new WHERE (SELECT count(*) FROM new) <= {FEW} AND EXISTS (
            SELECT FROM {{token_sources}} s WHERE {_OF_ID} AND s.key <> new.key
        )
    )
"""
"""SQL, for WITH: the addresses that are new since then, up to one more than few;
and their tokens, if few.
"""

ARE_MANY: Final = f"(SELECT count(*) FROM new) > {FEW}"
IS_ONE_OF_FEW: Final = "id = ANY(ARRAY(SELECT id FROM renewed))"


class SourceRow(msgspec.Struct):
    """key: see `key_of`. first_at: when the token was first used from that address.

    is_news: whether that is to be told; not of uses that a release recorded which told nothing,
    for an upgrade would tell of years. told: how often it was told, which is once.
    """

    key: bytes
    first_at: datetime
    is_news: bool
    told: int


def contribution(entry: LogEntry, event: Used | FirstUsed | UsedFromNewSource) -> SourceRow:
    """The first use from an address makes a row, and no later one changes it."""
    if isinstance(event, Used):
        address = address_text(event.presentation.source)
        return SourceRow(
            key_of(entry.originator_id, address), entry.at, event.secret is not None, 0
        )
    return SourceRow(key_of(entry.originator_id, event.source or ""), entry.at, False, 1)


PROJECTION: Final = RowPerKey(
    name="token_sources",
    shape=4,
    row=SourceRow,
    columns={
        "key": "bytea",
        "first_at": "timestamptz NOT NULL",
        "is_news": "boolean NOT NULL",
        "told": "integer NOT NULL",
    },
    indexes={
        "since": f"(first_at) WHERE {_IS_KNOWN}",
        "news": "(first_at) WHERE told = 0 AND is_news",
    },
    topics=frozenset({Used.topic, FirstUsed.topic, UsedFromNewSource.topic}),
    row_of=contribution,
    sums=("told",),
)

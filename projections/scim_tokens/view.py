"""The view `scim_tokens`: each token's response, rendered, and the columns that lists filter by.

A use is nearly every event, and it changes one field: it sets two columns of its row, which is
neither read nor rendered again for that.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.eventstore.event_registry import EventRegistry
from domain.scim_token import Created, Revoked, Rotated, Used
from projections.described import Instant
from projections.projection import LogEntry, Projection


class TokenDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The token object of the public API, fields in the documented order.

    Date-times are UTC with exactly three decimals and Z. Fields after `updated_at` are extensions,
    present only when they were used.
    """

    id: UUID
    team_id: UUID
    name: str
    created_by: UUID
    last_used_at: Instant | None
    created_at: Instant
    updated_at: Instant
    expires_at: Instant | None = None
    rotated_at: Instant | None = None
    revoked_at: Instant | None = None


@lru_cache(1024)  # uses that were committed together share their instant
def rfc3339(at: datetime) -> str:
    """UTC with exactly three decimals and Z, also when the milliseconds are zero."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def _optional(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def document(  # noqa: PLR0917 - the columns of the view, in their order
    id_: UUID,
    team_id: UUID,
    name: str,
    created_by: UUID,
    last_used_at: datetime | None,
    created_at: datetime,
    updated_at: datetime,
    expires_at: datetime | None,
    rotated_at: datetime | None,
    revoked_at: datetime | None,
) -> TokenDocument:
    """The token object from the view's columns."""
    return TokenDocument(
        id_,
        team_id,
        name,
        created_by,
        _optional(last_used_at),
        rfc3339(created_at),
        rfc3339(updated_at),
        _optional(expires_at),
        _optional(rotated_at),
        _optional(revoked_at),
    )


# Places of the columns in a row.
(
    ID,
    TEAM_ID,
    NAME,
    CREATED_BY,
    LAST_USED_AT,
    CREATED_AT,
    UPDATED_AT,
    EXPIRES_AT,
    ROTATED_AT,
    REVOKED_AT,
) = range(10)


def apply(
    rows: dict[UUID, list[Any]], entries: Iterable[LogEntry], registry: EventRegistry
) -> None:
    """Fold.

    A use moves `last_used_at` and nothing else; only a change of the token moves `updated_at`.
    """
    for _, token_id, _, topic, at, _, state, _ in entries:
        if topic == Used.topic:
            rows[token_id][LAST_USED_AT] = at
        elif topic == Created.topic:
            event = registry.decode(topic, state)
            assert isinstance(event, Created)
            rows[token_id] = [
                token_id,
                event.team_id,
                event.name,
                event.created_by.user_id,
                None,
                at,
                at,
                event.expires_at,
                None,
                None,
            ]
        elif topic == Rotated.topic:
            rows[token_id][ROTATED_AT] = rows[token_id][UPDATED_AT] = at
        elif topic == Revoked.topic:
            rows[token_id][REVOKED_AT] = rows[token_id][UPDATED_AT] = at


def derive(row: list[Any]) -> Sequence[Any]:
    """The rendered document in three parts:
    a read sends stored bytes, and a use writes few of them.

    And whether the token was used: a column by itself, since it changes once and may stand in an
    index.
    """
    head, name, rest = _encoder.encode(document(*row)).decode().partition('"last_used_at":')
    used, comma, tail = rest.partition(",")
    return head + name, used, comma + tail, row[LAST_USED_AT] is not None


def touch(entry: LogEntry) -> Sequence[Any]:
    """What a use sets, whatever the row was before."""
    return entry.at, f'"{rfc3339(entry.at)}"', True


_encoder: Final = msgspec.json.Encoder()

DOCUMENT: Final = "head || used || tail"
"""SQL: the token object of a row.

A name cannot look like the key of a field: its quotes are escaped.
"""

_LISTS: Final = (
    ("active", "", " WHERE revoked_at IS NULL"),
    ("all", "", ""),
    ("named", "name, ", ""),
    ("unused", "", " WHERE NOT is_used"),
    ("revoked", "", " WHERE revoked_at IS NOT NULL"),
    ("expiring", "", " WHERE revoked_at IS NULL AND expires_at IS NOT NULL"),
)
"""What is listed, each of one team and of all: see `token_walk`. No column here changes with each
use, which would have to write all of the indexes then (`pg_stat_user_tables.n_tup_hot_upd`)."""

PROJECTION: Final = Projection(
    name="scim_tokens",
    shape=2,
    columns={
        "id": "uuid",
        "team_id": "uuid NOT NULL",
        "name": "text NOT NULL",
        "created_by": "uuid NOT NULL",
        "last_used_at": "timestamptz",
        "created_at": "timestamptz NOT NULL",
        "updated_at": "timestamptz NOT NULL",
        "expires_at": "timestamptz",
        "rotated_at": "timestamptz",
        "revoked_at": "timestamptz",
        "head": "text NOT NULL",
        "used": "text NOT NULL",
        "tail": "text NOT NULL",
        "is_used": "boolean NOT NULL DEFAULT false",
    },
    stored=10,
    indexes={
        f"{name}{suffix}": f"({columns}created_at DESC, id DESC){where}"
        for name, columns, where in _LISTS
        for suffix, columns in (("_of_team", f"team_id, {columns}"), ("", columns))
    },
    topics=frozenset({Created.topic, Used.topic, Rotated.topic, Revoked.topic}),
    apply=apply,
    derive=derive,
    decodes=frozenset({Created.topic}),
    last_only=frozenset({Used.topic}),
    touched=("last_used_at", "used", "is_used"),
    touch=touch,
    fillfactor=50,  # each use rewrites its row: half as dear where the page has room for a few
)

"""The view `scim_tokens`: each token's response, rendered, and the columns that lists filter by.

A use is nearly every event, and it changes one field: it sets two columns of its row, which is
neither read nor rendered again for that.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from domain.scim_token.events import (
    Changed,
    Created,
    Resumed,
    Revoked,
    Rotated,
    RotationCancelled,
    RotationCompleted,
    RotationFinished,
    Suspended,
    Used,
)
from domain.scim_token.rotation import has_finished
from domain.scim_token.token import ScimToken
from domain.scim_token.values import lifetime_days
from domain.scim_token.warnings import (
    UNTIL_ROTATION_END,
    first_warning_at,
)
from projections.described import Instant, rfc3339, rfc3339_or_none
from projections.kinds.row_per_stream import LastOnly, RowPerStream
from projections.projection import LogEntry
from projections.scim_tokens import known_secrets
from projections.scim_tokens.known_secrets import Rotation
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.walk import INDEXES
from projections.scim_tokens.warned import WARNINGS


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
    suspended_at: Instant | None = None
    revoked_at: Instant | None = None
    rotation: Rotation | None = None


def document(token: TokenRow | ScimToken) -> TokenDocument:
    """The token object of the public API."""
    return TokenDocument(
        token.id,
        token.team_id,
        token.name,
        token.created_by,
        rfc3339_or_none(token.last_used_at),
        rfc3339(token.created_at),
        rfc3339(token.updated_at),
        rfc3339_or_none(token.expires_at),
        rfc3339_or_none(token.rotated_at),
        rfc3339_or_none(token.suspended_at),
        rfc3339_or_none(token.revoked_at),
    )


def created(entry: LogEntry, event: Created) -> TokenRow:
    """A new token, not used yet."""
    assert event.created_by.user_id is not None
    return TokenRow(
        id=entry.originator_id,
        team_id=event.team_id,
        name=event.name,
        created_by=event.created_by.user_id,
        last_used_at=None,
        created_at=entry.at,
        updated_at=entry.at,
        expires_at=event.expires_at,
        rotated_at=None,
        revoked_at=None,
        next_warning_at=_first_warning(event.expires_at, entry.at),
        secrets=known_secrets.first(event.digest, entry.at),
    )


def used(row: TokenRow, entry: LogEntry, _: None) -> TokenRow:
    """A use moves `last_used_at` and nothing else; only a change of the token moves the other."""
    return replace(row, last_used_at=entry.at)


def rotated(row: TokenRow, entry: LogEntry, event: Rotated) -> TokenRow:
    """The token has a new secret."""
    until = event.overlap_until
    secrets = known_secrets.with_another(row.secrets, event.digest, entry.at, ends_at=until)
    row = replace(_without_rotation(row), rotated_at=entry.at, updated_at=entry.at, secrets=secrets)
    if until <= entry.at:
        return row
    due_at = first_warning_at(until, after=entry.at, of=UNTIL_ROTATION_END)
    return replace(row, rotation_ends_at=until, rotation_due_at=due_at)


def _without_rotation(row: TokenRow) -> TokenRow:
    return replace(row, rotation_ends_at=None, rotation_due_at=None, old_secret_day=None)


def completed(row: TokenRow, entry: LogEntry, event: RotationCompleted) -> TokenRow:
    """The older secret has ended."""
    secrets = known_secrets.with_end(row.secrets, event.secret, entry.at)
    return replace(_without_rotation(row), updated_at=entry.at, secrets=secrets)


def cancelled(row: TokenRow, entry: LogEntry, event: RotationCancelled) -> TokenRow:
    """The newer secret has ended, the older one goes on."""
    secrets = known_secrets.with_end(row.secrets, event.secret, entry.at, resumes=True)
    return replace(_without_rotation(row), updated_at=entry.at, secrets=secrets)


def finished(row: TokenRow, entry: LogEntry, event: RotationFinished) -> TokenRow:
    """The older secret has ended by itself, which is no change that somebody made."""
    if not has_finished(event, entry.at, ends=(row.rotation_ends_at, row.expires_at)):
        return row
    secrets = known_secrets.with_end(row.secrets, event.secret, entry.at)
    return replace(_without_rotation(row), secrets=secrets)


def changed(row: TokenRow, entry: LogEntry, event: Changed) -> TokenRow:
    """The token has another name, another end or none; of another end it is warned anew."""
    row = replace(row, updated_at=entry.at)
    if event.name is not UNSET:
        row = replace(row, name=event.name)
    if event.expires_at is UNSET:
        return row
    return replace(
        row,
        expires_at=event.expires_at,
        next_warning_at=_first_warning(event.expires_at, entry.at),
    )


def _first_warning(expires_at: datetime | None, decided_at: datetime) -> datetime | None:
    return None if expires_at is None else first_warning_at(expires_at, after=decided_at)


def revoked(row: TokenRow, entry: LogEntry, _: None) -> TokenRow:
    """The token has ended."""
    return replace(
        _without_rotation(row), revoked_at=entry.at, updated_at=entry.at, next_warning_at=None
    )


def suspended(row: TokenRow, entry: LogEntry, _: None) -> TokenRow:
    """The token lets nobody in."""
    return replace(row, suspended_at=entry.at, updated_at=entry.at)


def resumed(row: TokenRow, entry: LogEntry, _: None) -> TokenRow:
    """The suspension was taken back."""
    return replace(row, suspended_at=None, updated_at=entry.at)


def render(row: TokenRow) -> Sequence[Any]:
    """The document in three parts, whether the token was used, and how many days it lives, unless
    it is revoked.

    A read sends stored bytes, and a use writes few of them. That it was used is a column by itself,
    since it changes once and may stand in an index.
    """
    before, name, rest = _encoder.encode(document(row)).decode().partition('"last_used_at":')
    last_use, comma, after = rest.partition(",")
    days = None if row.revoked_at else lifetime_days(row.created_at, row.expires_at)
    return before + name, last_use, comma + after, row.last_used_at is not None, days


def last_use(entry: LogEntry) -> Sequence[Any]:
    """The columns that a use sets, whatever the row was before."""
    return entry.at, f'"{rfc3339(entry.at)}"', True


_encoder: Final = msgspec.json.Encoder()

DOCUMENT: Final = "before_use || last_use || after_use"
"""SQL: the token object of a row.

A name cannot look like the key of a field: its quotes are escaped.
"""

PROJECTION: Final = RowPerStream(
    name="scim_tokens",
    shape=8,
    row=TokenRow,
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
        "suspended_at": "timestamptz",
        "next_warning_at": "timestamptz",
        "unused_since": "timestamptz",
        "secrets": "text NOT NULL DEFAULT '[]'",
        "rotation_ends_at": "timestamptz",
        "rotation_due_at": "timestamptz",
        "old_secret_day": "integer",
        "before_use": "text NOT NULL",
        "last_use": "text NOT NULL",
        "after_use": "text NOT NULL",
        "is_used": "boolean NOT NULL DEFAULT false",
        "lifetime_days": "integer",
    },
    indexes={
        **INDEXES,
        "warning": "(next_warning_at) WHERE next_warning_at IS NOT NULL",
        "rotation_due": "(rotation_due_at) WHERE rotation_due_at IS NOT NULL",
        "rotation_end": "(rotation_ends_at) WHERE rotation_ends_at IS NOT NULL",
        "ending": "(expires_at) WHERE revoked_at IS NULL AND expires_at IS NOT NULL",
    },
    first=Created,
    create=created,
    evolve={
        Used: used,
        Rotated: rotated,
        Changed: changed,
        Suspended: suspended,
        Resumed: resumed,
        RotationCompleted: completed,
        RotationCancelled: cancelled,
        RotationFinished: finished,
        Revoked: revoked,
        **WARNINGS,
    },
    instant_only=frozenset({Used, Suspended, Resumed, Revoked}),
    last_only=LastOnly(
        event=Used, columns=("last_used_at", "last_use", "is_used"), values=last_use
    ),
    render=render,
    fillfactor=50,  # each use rewrites its row: half as dear where the page has room for a few
)

"""The row of the view `scim_tokens`, without what is rendered from it."""

from datetime import datetime
from uuid import UUID

import msgspec


class TokenRow(msgspec.Struct, frozen=True, gc=False):
    """What a token's document is rendered from, and what was told of it. Instants are aware, UTC.

    next_warning_at: when the next warning of its end becomes due; None where none is to come.
    unused_since: the silence that was told last. secrets: see `known_secrets`. rotation_ends_at:
    the end of the overlap, until it is on record that the rotation has ended. rotation_due_at: when
    the next that is to be told of it becomes due. old_secret_day: see `Told`.
    """

    id: UUID
    team_id: UUID
    name: str
    created_by: UUID
    last_used_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None
    suspended_at: datetime | None = None
    next_warning_at: datetime | None = None
    unused_since: datetime | None = None
    secrets: str = "[]"
    rotation_ends_at: datetime | None = None
    rotation_due_at: datetime | None = None
    old_secret_day: int | None = None

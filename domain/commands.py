"""The arguments of the ledger's commands, and the clock and ids that it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.api_token.permissions import Permission


@dataclass(frozen=True, slots=True)
class ClockAndIds:
    """Where the ledger gets what is not in its arguments.

    clock: now, aware UTC, whole milliseconds. new_id: a fresh UUID. entropy: 32 random bytes.
    """

    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
    entropy: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class CommandKey:
    """What makes two commands the same: the id,
    and the digest of what is asked (to tell its reuse).
    """

    id: UUID
    request: bytes


class NewScimToken(msgspec.Struct, frozen=True):
    """What a caller asks for. Rules: `ScimToken.create`."""

    team_id: UUID
    name: str
    expires_at: datetime | None = None
    reason: str | None = None


class ScimTokenChange(msgspec.Struct, frozen=True):
    """What a caller wants changed. Rules: `domain.scim_token.changes`."""

    name: str | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    reason: str | None = None


class NewApiToken(msgspec.Struct, frozen=True):
    """What an administrator asks for. Rules: `ApiToken.create`.

    permissions: None for those that go with the teams. lifetime: from its creation on; expires_at:
    its end as an instant; without either there is none. reason: why, for the trail.
    """

    user_id: UUID
    teams: tuple[UUID, ...] | None
    permissions: tuple[Permission, ...] | None
    lifetime: timedelta | None
    expires_at: datetime | None = None
    reason: str | None = None

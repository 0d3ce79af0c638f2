"""The `ApiToken` aggregate: who may call the administrative API. Pure, like `scim_token`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

import msgspec

from domain.errors import InvalidValue, NotFound, PermissionDenied, Unauthenticated
from domain.event import Actor, Event, Recorded, SecretRow
from domain.scim_token.events import Presentation
from domain.scim_token.token import REFUSAL_EVERY
from domain.scim_token.values import check_reason, kept_expiry
from domain.secret import Digest

DEFAULT_LIFETIME: Final = timedelta(days=90)
USE_EVERY: Final = timedelta(minutes=1)


class Permission(StrEnum):
    """What an API token allows."""

    SCIM_TOKENS_READ = "scim_tokens:read"
    SCIM_TOKENS_WRITE = "scim_tokens:write"
    AUDIT_READ = "audit:read"
    PROJECTIONS_MANAGE = "projections:manage"
    API_TOKENS_MANAGE = "api_tokens:manage"
    POLICIES_MANAGE = "policies:manage"
    LEAKS_REPORT = "leaks:report"


DEPLOYMENT_WIDE: Final = frozenset(
    {Permission.PROJECTIONS_MANAGE, Permission.API_TOKENS_MANAGE, Permission.POLICIES_MANAGE}
)
"""They are about no team, or above it, so a token that is confined to teams has them only
where they were asked for.
"""


class ApiTokenEvent(Event, frozen=True, forbid_unknown_fields=True):
    """Any event of an `ApiToken`."""


class Created(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An API token came into being; its secret was shown to its creator, once.

    user_id: the user it acts for. teams: the teams it may touch, None for all.
    created_by: None when an early release made it at the command line. expires_at: None for no end.
    reason: why, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "api_token.created.v1"
    user_id: UUID
    teams: tuple[UUID, ...] | None
    permissions: tuple[Permission, ...]
    digest: Digest
    created_by: Actor | None
    expires_at: datetime | None
    reason: str | None = None


class Used(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token was used; at most one a minute is recorded.

    Each command names its caller by itself.

    presentation: of the call that is recorded; None in events of early releases.
    """

    topic: ClassVar[str] = "api_token.used.v1"
    presentation: Presentation | None = None


class Refused(ApiTokenEvent, frozen=True, forbid_unknown_fields=True):
    """A call with the token was refused; at most one a minute is recorded.

    reason: "permission", "revoked" or "expired". permission: the one that was missing, None for the
    others. presentation: of the call; its `path_class` is the class of its route, e.g.
    "scim-token/{id}".
    """

    topic: ClassVar[str] = "api_token.refused.v1"
    reason: str
    permission: Permission | None
    presentation: Presentation


class Revoked(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token stopped being valid. Final.

    revoked_by: None when an early release did it at the command line. reason: whoever revoked it
    says why, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "api_token.revoked.v1"
    revoked_by: Actor | None
    reason: str | None = None


EVENTS: Final[Sequence[type[ApiTokenEvent]]] = (Created, Used, Refused, Revoked)


class ApiToken(msgspec.Struct, frozen=True):
    """State after `version` events. Instants are ledger time."""

    id: UUID
    version: int
    user_id: UUID
    teams: tuple[UUID, ...] | None
    permissions: tuple[Permission, ...]
    digest: Digest
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    refused_at: datetime | None = None
    refused_for: str | None = None
    last_used_at: datetime | None = None
    uses: int = 0

    @staticmethod
    def create(
        *,
        user_id: UUID,
        teams: Sequence[UUID] | None,
        permissions: Sequence[Permission] | None,
        digest: Digest,
        created_by: Actor | None,
        expires_at: datetime | None,
        at: datetime,
        reason: str | None = None,
    ) -> list[ApiTokenEvent]:
        """Create an API token.

        permissions: None for every one, and for every one but the deployment-wide where teams are
        named. Raises InvalidValue without a permission, with an empty list of teams, and with an
        end or a reason that `check_expiry` or `check_reason` refuses.
        """
        if permissions is None:
            permissions = [
                each for each in Permission if teams is None or each not in DEPLOYMENT_WIDE
            ]
        check_reason(reason)
        if not permissions:
            raise InvalidValue("/permissions", "at least one is needed")
        if teams is not None and not teams:
            raise InvalidValue("/teams", "name at least one team, or none at all for every team")
        if expires_at is not None:
            expires_at = kept_expiry(expires_at, after=at)
        return [
            Created(
                user_id=user_id,
                teams=None if teams is None else tuple(dict.fromkeys(teams)),
                permissions=tuple(dict.fromkeys(permissions)),
                digest=digest,
                created_by=created_by,
                expires_at=expires_at,
                reason=reason,
            )
        ]

    @property
    def stream_team(self) -> None:
        """An API token speaks for a user, not for one team."""

    @property
    def actor(self) -> Actor:
        """How this token's calls are signed in the events that they cause."""
        return Actor(user_id=self.user_id, api_token_id=self.id)

    def is_good(self, *, at: datetime) -> bool:
        """Whether the token authenticates at `at`."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    def authorise(self, permission: Permission, *, at: datetime) -> None:
        """Raise Unauthenticated when the token is over,
        PermissionDenied when it lacks `permission`.
        """
        if not self.is_good(at=at):
            raise Unauthenticated("the API token is not valid")
        if permission not in self.permissions:
            raise PermissionDenied(permission)

    def is_manager(self, *, at: datetime) -> bool:
        """Whether the token may manage API tokens at `at`."""
        return Permission.API_TOKENS_MANAGE in self.permissions and self.is_good(at=at)

    def covers(self, teams: Sequence[UUID] | None) -> bool:
        """Whether `teams`, None for all, are among those that this token may touch."""
        return self.teams is None or (teams is not None and set(teams) <= set(self.teams))

    def sees(self, other: "ApiToken") -> bool:
        """Whether a manager is told of another token: one of its teams that is not revoked."""
        return self.covers(other.teams) and other.revoked_at is None

    def require_grantable(
        self, permissions: Sequence[Permission], teams: Sequence[UUID] | None
    ) -> None:
        """Raise unless this token may hand these permissions and teams on:
        nobody grants more than they have.

        Raises PermissionDenied with the first permission that it lacks, InvalidValue where all
        teams are meant, and NotFound for a team of others.
        """
        for permission in permissions:
            if permission not in self.permissions:
                raise PermissionDenied(permission)
        if teams is None and self.teams is not None:
            raise InvalidValue("/teams", "must be given: your own API token is for some teams only")
        if not self.covers(teams):
            raise NotFound("no such team")

    def require_team(self, team_id: UUID) -> None:
        """Raise NotFound when the token is confined to other teams:
        foreign and missing look the same.
        """
        if self.teams is not None and team_id not in self.teams:
            raise NotFound("no such token")

    def refuse(
        self, *, lacking: Permission | None, presentation: Presentation, at: datetime
    ) -> list[ApiTokenEvent]:
        """Record that a call was refused: the token is over, or lacks a permission.

        Silent within a minute of the last refusal of the same reason, and where there is none.
        """
        if not self.is_good(at=at):
            lacking, reason = None, "expired" if self.revoked_at is None else "revoked"
        elif lacking is not None and lacking not in self.permissions:
            reason = "permission"
        else:
            return []
        last = self.refused_at if reason == self.refused_for else None
        if last is not None and at < last + REFUSAL_EVERY:
            return []
        return [Refused(reason=reason, permission=lacking, presentation=presentation)]

    def use(self, *, at: datetime, presentation: Presentation | None = None) -> list[ApiTokenEvent]:
        """Record a use; silent within a minute of the last one recorded.

        Raises Unauthenticated once over.
        """
        if not self.is_good(at=at):
            raise Unauthenticated("the API token is not valid")
        if self.last_used_at is not None and at < self.last_used_at + USE_EVERY:
            return []
        return [Used(presentation=presentation)]

    def revoke(self, *, by: Actor | None, reason: str | None = None) -> list[ApiTokenEvent]:
        """Revoke; a second time records nothing.

        Raises InvalidValue on a reason that `check_reason` refuses.
        """
        if self.revoked_at is not None:
            return []
        check_reason(reason)
        return [Revoked(revoked_by=by, reason=reason)]

    def secret_rows(self) -> list[SecretRow]:
        """How its one secret stands."""
        return [SecretRow(self.digest.value, self.expires_at, self.revoked_at is not None)]


def evolve(token: ApiToken | None, recorded: Recorded) -> ApiToken:
    """Fold one recorded event into the state."""
    event = recorded.event
    if isinstance(event, Created):
        assert token is None, "a stream starts once"
        assert recorded.originator_version == 1, "a stream is dense"
        return ApiToken(
            id=recorded.originator_id,
            version=recorded.originator_version,
            user_id=event.user_id,
            teams=event.teams,
            permissions=event.permissions,
            digest=event.digest,
            created_at=recorded.at,
            expires_at=event.expires_at,
        )
    assert token is not None, "a stream starts with Created"
    assert recorded.originator_version == token.version + 1, "a stream is dense"
    return msgspec.structs.replace(
        token, version=recorded.originator_version, **_change(token, event, recorded.at)
    )


def _change(token: ApiToken, event: Event, at: datetime) -> dict[str, object]:
    match event:
        case Used():
            return {"last_used_at": at, "uses": token.uses + 1}
        case Refused():
            return {"refused_at": at, "refused_for": event.reason}
        case Revoked():
            return {"revoked_at": at}
        case _:
            raise AssertionError(f"{event.topic} is not folded")

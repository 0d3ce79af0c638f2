"""The `ApiToken` aggregate: its state and its decisions. Pure, like `scim_token`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from domain.api_token.events import (
    ApiTokenEvent,
    Created,
    Refused,
    Rekeyed,
    Revoked,
    Rotated,
    Used,
)
from domain.api_token.permissions import DEPLOYMENT_WIDE, Permission
from domain.errors import InvalidValue, NotFound, PermissionDenied, Unauthenticated
from domain.event import Actor, Event, Recorded, SecretRow, next_version
from domain.scim_token.events import Presentation
from domain.scim_token.token import REFUSAL_EVERY
from domain.scim_token.values import check_reason, kept_expiry
from domain.secret import Digest, SecretId, secret_id

DEFAULT_LIFETIME: Final = timedelta(days=90)
USE_EVERY: Final = timedelta(minutes=1)


class OlderSecret(msgspec.Struct, frozen=True):
    """A secret before a rotation: its digest, and the first instant at which it is refused.

    shown_as: as of `HeldSecret`.
    """

    digest: Digest
    good_until: datetime
    shown_as: SecretId | None = None


class ApiToken(msgspec.Struct, frozen=True):
    """State after `version` events. Instants are ledger time.

    digest, shown_as: of the newest secret, as of `HeldSecret`. older: those that were good when it
    came, two at most. session_of, session_secret: as of `Created`.
    """

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
    older: tuple[OlderSecret, ...] = ()
    rotated_at: datetime | None = None
    session_of: UUID | None = None
    shown_as: SecretId | None = None
    session_secret: SecretId | None = None

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
        lifetime: timedelta | None = None,
        reason: str | None = None,
    ) -> list[ApiTokenEvent]:
        """Create an API token.

        permissions: None for every one, and for every one but the deployment-wide where teams are
        named. lifetime: from `at` on, instead of `expires_at`. Raises InvalidValue without a
        permission, with an empty list of teams, and with an end or a reason that `check_expiry` or
        `check_reason` refuses.
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
        is_end_asked_for = lifetime is None and expires_at is not None
        if lifetime is not None:
            expires_at = at + lifetime
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
                is_end_asked_for=is_end_asked_for,
            )
        ]

    @property
    def stream_team(self) -> None:
        """An API token speaks for a user, not for one team."""

    @property
    def actor(self) -> Actor:
        """How this token's calls are signed in the events that they cause."""
        return Actor(user_id=self.user_id, api_token_id=self.id)

    @property
    def held(self) -> Sequence[tuple[Digest, SecretId]]:
        """Its secrets, the oldest first: the digest of each, and what it is called."""
        each_as_it_is: tuple[OlderSecret | ApiToken, ...] = (*self.older, self)
        return [
            (secret.digest, secret.shown_as or secret_id(secret.digest.value))
            for secret in each_as_it_is
        ]

    def is_good(self, *, at: datetime, digests: Sequence[bytes] | None = None) -> bool:
        """Whether the token authenticates at `at`.

        digests: with the secret that has these, one under each key: between a look at the ledger
        and a decision it may have been digested anew. None for any secret.
        """
        is_over = self.expires_at is not None and self.expires_at <= at
        if is_over or self.revoked_at is not None:
            return False
        return (
            digests is None
            or self.digest.value in digests
            or any(old.digest.value in digests and at < old.good_until for old in self.older)
        )

    def authorise(
        self, permission: Permission, *, at: datetime, digests: Sequence[bytes] | None = None
    ) -> None:
        """Raise Unauthenticated when the token, or the secret, is over,
        PermissionDenied when it lacks `permission`.
        """
        if not self.is_good(at=at, digests=digests):
            raise Unauthenticated("the API token is not valid")
        if permission not in self.permissions:
            raise PermissionDenied(permission)

    def require_team(self, team_id: UUID) -> None:
        """Raise NotFound when the token is confined to other teams:
        foreign and missing look the same.
        """
        if self.teams is not None and team_id not in self.teams:
            raise NotFound("no such token")

    def refuse(
        self,
        *,
        lacking: Permission | None,
        presentation: Presentation,
        at: datetime,
        digests: Sequence[bytes] | None = None,
    ) -> list[ApiTokenEvent]:
        """Record that a call was refused: token or secret is over, or it lacks a permission.

        Silent within a minute of the last refusal of the same reason, and where there is none.
        """
        if not self.is_good(at=at, digests=digests):
            lacking, reason = None, "expired" if self.revoked_at is None else "revoked"
        elif lacking is not None and lacking not in self.permissions:
            reason = "permission"
        else:
            return []
        last = self.refused_at if reason == self.refused_for else None
        if last is not None and at < last + REFUSAL_EVERY:
            return []
        return [Refused(reason=reason, permission=lacking, presentation=presentation)]

    def use(
        self,
        *,
        at: datetime,
        presentation: Presentation | None = None,
        digests: Sequence[bytes] | None = None,
    ) -> list[ApiTokenEvent]:
        """Record a use; silent within a minute of the last one recorded.

        Raises Unauthenticated once over.
        """
        if not self.is_good(at=at, digests=digests):
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
        """How each secret stands."""
        is_void = self.revoked_at is not None
        return [
            *(SecretRow(old.digest.value, old.good_until, is_void) for old in self.older),
            SecretRow(self.digest.value, self.expires_at, is_void),
        ]


def evolve(token: ApiToken | None, recorded: Recorded) -> ApiToken:
    """Fold one recorded event into the state."""
    event = recorded.event
    if isinstance(event, Created):
        assert token is None, "a stream starts once"
        return ApiToken(
            id=recorded.originator_id,
            version=next_version(token, recorded),
            user_id=event.user_id,
            teams=event.teams,
            permissions=event.permissions,
            digest=event.digest,
            created_at=recorded.at,
            expires_at=event.expires_at,
            session_of=event.session_of,
            session_secret=event.session_secret,
        )
    assert token is not None, "a stream starts with Created"
    return msgspec.structs.replace(
        token, version=next_version(token, recorded), **_change(token, event, recorded.at)
    )


def _change(token: ApiToken, event: Event, at: datetime) -> dict[str, object]:
    match event:
        case Used():
            return {"last_used_at": at, "uses": token.uses + 1}
        case Refused():
            return {"refused_at": at, "refused_for": event.reason}
        case Rotated():
            ends = min(event.overlap_until, token.expires_at or event.overlap_until)
            unended = [OlderSecret(token.digest, ends, token.shown_as)] + [
                msgspec.structs.replace(old, good_until=min(old.good_until, ends))
                for old in token.older
                if at <= old.good_until
            ]
            return {
                "digest": event.digest,
                "shown_as": None,
                "older": tuple(unended),
                "rotated_at": at,
            }
        case Rekeyed():
            return _digested_anew(token, event)
        case Revoked():
            return {"revoked_at": at}
        case _:
            raise AssertionError(f"{event.topic} is not folded")


def _digested_anew(token: ApiToken, event: Rekeyed) -> dict[str, object]:
    """The secrets, with the one that the event names under another digest, called as before."""
    anew = {"digest": event.digest, "shown_as": event.secret}
    if token.held[-1][1] == event.secret:
        return anew
    return {
        "older": tuple(
            msgspec.structs.replace(old, **anew) if name == event.secret else old
            for old, (_, name) in zip(token.older, token.held, strict=False)
        )
    }

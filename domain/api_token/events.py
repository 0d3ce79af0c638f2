"""The events of an API token. What follows from them: `token.py`."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from domain.api_token.permissions import Permission
from domain.event import Actor, Event
from domain.scim_token.events import Presentation
from domain.secret import Digest, SecretId


class ApiTokenEvent(Event, frozen=True, forbid_unknown_fields=True):
    """Any event of an `ApiToken`."""


class Created(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An API token came into being; its secret was shown to its creator, once.

    user_id: the user it acts for. teams: the teams it may touch, None for all.
    created_by: None when an early release made it at the command line. expires_at: None for no end.
    reason: why, 1 to 200 characters, or None. session_of: the API token that signed in to the
    console with it for a session, None for one that was made for anything else. session_secret:
    which of that one's secrets signed in; None too in events of early releases. is_end_asked_for:
    whether the caller named `expires_at`; false where it was reckoned from the creation, or where
    an early release did not tell.
    """

    topic: ClassVar[str] = "api_token.created.v1"
    user_id: UUID
    teams: tuple[UUID, ...] | None
    permissions: tuple[Permission, ...]
    digest: Digest
    created_by: Actor | None
    expires_at: datetime | None
    reason: str | None = None
    session_of: UUID | None = None
    session_secret: SecretId | None = None
    is_end_asked_for: bool = False


class Used(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token was used; at most one a minute is recorded.

    Each command names its caller by itself.

    presentation: of the call that is recorded; None in events of early releases.
    """

    topic: ClassVar[str] = "api_token.used.v1"
    presentation: Presentation | None = None


class Refused(ApiTokenEvent, frozen=True, forbid_unknown_fields=True):
    """A call with the token was refused; at most one a minute and reason is recorded.

    reason: "permission", "revoked" or "expired". permission: the one that was missing, None for the
    others. presentation: of the call; its `path_class` is the class of its route, e.g.
    "scim-token/{id}".
    """

    topic: ClassVar[str] = "api_token.refused.v1"
    reason: str
    permission: Permission | None
    presentation: Presentation


class Rotated(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token got a second secret; the ones before it end with the overlap.

    digest: of the new secret. overlap_until: the first instant at which the older ones are refused.
    reason: why, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "api_token.rotated.v1"
    rotated_by: Actor
    digest: Digest
    overlap_until: datetime
    reason: str | None = None


class Rekeyed(ApiTokenEvent, frozen=True, forbid_unknown_fields=True):
    """A secret of the token was digested anew, under a newer key of the pepper.

    secret, digest: as of a SCIM token's `Rekeyed`.
    """

    topic: ClassVar[str] = "api_token.rekeyed.v1"
    secret: SecretId
    digest: Digest


class Revoked(ApiTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token stopped being valid. Final.

    revoked_by: None when an early release did it at the command line. reason: whoever revoked it
    says why, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "api_token.revoked.v1"
    revoked_by: Actor | None
    reason: str | None = None


EVENTS: Final[Sequence[type[ApiTokenEvent]]] = (Created, Used, Refused, Rotated, Rekeyed, Revoked)

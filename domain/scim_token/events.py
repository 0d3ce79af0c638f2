"""The events of a SCIM token, and how a secret is presented. What follows from them: `token.py`."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.event import Actor, Event
from domain.secret import Digest, SecretId

USER_AGENT_MAX_LENGTH: Final = 200


class Presentation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a secret reached us. Never the secret, never a query string.

    door: which entrance, e.g. "scim", "nginx", "forward", "envoy", "verify", "introspect".
    form: "bearer", or "bare" when the secret came without the scheme word.
    source: address of the presenter, None where it is not known for sure.
    user_agent: at most 200 characters.
    method, path_class: what was asked for, the path reduced to its class (e.g. "Users",
    "Users/{id}"). note: a mistake of the presenter worth telling its administrator, e.g. "other
    dialect's headers ignored".
    """

    door: str
    form: str = "bearer"
    source: str | None = None
    user_agent: str | None = None
    method: str | None = None
    path_class: str | None = None
    note: str | None = None


class ScimTokenEvent(Event, frozen=True, forbid_unknown_fields=True):
    """Any event of a `ScimToken`."""


class Created(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A token came into being; its secret was shown to its creator, once.

    team_id: the team that owns it. name: as sent, 1 to 255 characters.
    created_by: user and API token of the caller. digest: of its first secret.
    expires_at: the first instant at which it no longer authenticates; None for no end.
    reason: the caller's words, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "scim_token.created.v1"
    team_id: UUID
    name: str
    created_by: Actor
    digest: Digest
    expires_at: datetime | None
    reason: str | None = None


class Used(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token authenticated.

    The event's own `at` is the instant of the last use that it stands for.

    count: how many uses by the same presentation were committed together, at least 1.
    first_at: when the first of them arrived. secret: see `SecretId`; None where a release recorded
    it that did not tell.
    """

    topic: ClassVar[str] = "scim_token.used.v1"
    count: int
    first_at: datetime
    presentation: Presentation
    secret: SecretId | None = None


class Refused(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A secret of the token was presented and did not authenticate;
    at most one a minute is recorded.

    reason: "revoked", "suspended", "expired" or "network". secret: as of `Used`.
    """

    topic: ClassVar[str] = "scim_token.refused.v1"
    reason: str
    presentation: Presentation
    secret: SecretId | None = None


class Rotated(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token got a second secret; the ones before it end with the overlap.

    rotated_by: user and API token of the caller. digest: of the new secret.
    overlap_until: the first instant at which the older secrets no longer authenticate.
    reason: the caller's words, 1 to 200 characters, or None. setup_link: which one showed the new
    secret to whoever held it; then nobody is named, and where that was stands in `rotated_by`.
    """

    topic: ClassVar[str] = "scim_token.rotated.v1"
    rotated_by: Actor
    digest: Digest
    overlap_until: datetime
    reason: str | None = None
    setup_link: SecretId | None = None


class Changed(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token got another name, another end, or both; what is left out stayed as it was.

    changed_by: user and API token of the caller. name: as of `Created`.
    expires_at: as of `Created`; None took the end away. reason: the caller's words, 1 to 200
    characters, or None.
    """

    topic: ClassVar[str] = "scim_token.changed.v1"
    changed_by: Actor
    name: str | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    reason: str | None = None


class Suspended(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token authenticates nobody until it is resumed.

    suspended_by: user and API token of the caller. reason: the caller's words, 1 to 200 characters,
    or None.
    """

    topic: ClassVar[str] = "scim_token.suspended.v1"
    suspended_by: Actor
    reason: str | None = None


class Resumed(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token is good again, as far as its end and its secrets' ends allow.

    resumed_by, reason: as of `Suspended`.
    """

    topic: ClassVar[str] = "scim_token.resumed.v1"
    resumed_by: Actor
    reason: str | None = None


class NetworksSet(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token is good from these networks alone, from now on; from any where there is none.

    set_by: user and API token of the caller. networks: in CIDR notation. reason: the caller's
    words, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "scim_token.networks_set.v1"
    set_by: Actor
    networks: tuple[str, ...]
    reason: str | None = None


class Rekeyed(ScimTokenEvent, frozen=True, forbid_unknown_fields=True):
    """A secret of the token was digested anew, under a newer key of the pepper.

    Nothing else about the token or the secret changed: this is no use and no rotation.

    secret: what the secret is called, before as after. digest: of the same secret, under the newer
    key; the one before is not kept.
    """

    topic: ClassVar[str] = "scim_token.rekeyed.v1"
    secret: SecretId
    digest: Digest


class RotationCompleted(
    ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The older secret ended with this, before the end of its overlap; the newer one is the only.

    completed_by: user and API token of the caller. secret: which one ended.
    reason: the caller's words, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "scim_token.rotation_completed.v1"
    completed_by: Actor
    secret: SecretId
    reason: str | None = None


class RotationCancelled(
    ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The newer secret ended with this; the older one is the only one again, without an overlap.

    cancelled_by: user and API token of the caller. secret: which one ended.
    reason: the caller's words, 1 to 200 characters, or None.
    """

    topic: ClassVar[str] = "scim_token.rotation_cancelled.v1"
    cancelled_by: Actor
    secret: SecretId
    reason: str | None = None


class RotationFinished(ScimTokenEvent, frozen=True, forbid_unknown_fields=True):
    """The older secret has ended by itself.

    secret: which one. cause: "silent", it ended with this, since the newer one is in use and it is
    not; "over", its overlap had ended; or "mistaken", which a repair of ledger time makes of
    "silent": the clock was wrong, and nothing has ended.
    """

    topic: ClassVar[str] = "scim_token.rotation_finished.v1"
    secret: SecretId
    cause: str


class Revoked(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token stopped being valid. Final.

    revoked_by: user and API token of the caller, or None for a burn by whoever held the secret (RFC
    7009). reason: the caller's words, 1 to 200 characters, or None. presentation: of a burn, how
    the secret came. secret: of a burn, which one: as of `Used`.
    cause: what many revocations have in common that were one request.
    """

    topic: ClassVar[str] = "scim_token.revoked.v1"
    revoked_by: Actor | None
    reason: str | None
    presentation: Presentation | None = None
    secret: SecretId | None = None
    cause: UUID | None = None


class Leaked(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A secret of the token was found where it does not belong; at most ten places are recorded.

    reported_by: user and API token of the caller, or what is known of a programme that told us.
    secret: which one. url: where, without user, query and fragment. source: what was searched, or
    who searched.
    """

    topic: ClassVar[str] = "scim_token.leaked.v1"
    reported_by: Actor
    secret: SecretId
    url: str | None = None
    source: str | None = None


class SetupLinkCreated(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The token can be handed over by a link, once; an older link ended with this.

    created_by: user and API token of the caller. digest: of the link's code, 32 bytes.
    ends_at: the first instant at which it opens nothing. reason: the caller's words, 1 to 200
    characters, or None. key_generation: which key of the pepper made the digest.
    """

    topic: ClassVar[str] = "scim_token.setup_link_created.v1"
    created_by: Actor
    digest: bytes
    ends_at: datetime
    reason: str | None = None
    key_generation: int = 1


class SetupLinkEnded(ScimTokenEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The link opens nothing from now on.

    ended_by: user and API token of the caller. setup_link: which one. reason: the caller's words, 1
    to 200 characters, or None.
    """

    topic: ClassVar[str] = "scim_token.setup_link_ended.v1"
    ended_by: Actor
    setup_link: SecretId
    reason: str | None = None


EVENTS: Final[Sequence[type[ScimTokenEvent]]] = (
    Created,
    Used,
    Refused,
    Rotated,
    Changed,
    Suspended,
    Resumed,
    NetworksSet,
    Rekeyed,
    RotationCompleted,
    RotationCancelled,
    RotationFinished,
    Revoked,
    Leaked,
    SetupLinkCreated,
    SetupLinkEnded,
)

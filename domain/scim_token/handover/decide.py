"""Hand a token over by a link: whoever holds it is shown a new secret, once. Pure.

A secret is shown to nobody but its holder, so a link holds none: the press of a button makes one,
which is a rotation.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from domain.errors import InvalidValue, NotFound, RotationUnderway, SecretAlreadyShown
from domain.event import Actor
from domain.scim_token import rotation
from domain.scim_token.events import Rotated, ScimTokenEvent, SetupLinkCreated, SetupLinkEnded
from domain.scim_token.token import ScimToken, earliest
from domain.scim_token.values import check_reason, require_meant
from domain.secret import Digest
from domain.setup_link import LIFETIME, NO_DIGEST, SetupLink


def offer(
    token: ScimToken,
    *,
    digest: Digest,
    created_by: Actor,
    at: datetime,
    reason: str | None = None,
    looked_at: datetime | None = None,
) -> list[ScimTokenEvent]:
    """Let the link of `digest` hand the token over for 24 hours; a link before it ends.

    looked_at: as of `withdraw`. Raises InvalidValue on a reason that `check_reason` refuses, on a
    token that is suspended or has expired, and where a link was made since, NotFound once revoked,
    RotationUnderway while two secrets are good.
    """
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
    if token.suspended_at is not None:
        raise InvalidValue("", "the token is suspended; resume it first")
    if token.expires_at is not None and token.expires_at <= at:
        raise InvalidValue("", "the token has expired; create another")
    if rotation.underway(token, at) is not None:
        raise RotationUnderway("the token has two good secrets; complete or cancel its rotation")
    _require_seen(_open_link(token, at), looked_at)
    ends_at = earliest(at + LIFETIME, token.expires_at)
    assert ends_at is not None
    return [SetupLinkCreated(created_by, digest.value, ends_at, reason, digest.key_generation)]


def withdraw(
    token: ScimToken,
    *,
    ended_by: Actor,
    at: datetime,
    reason: str | None = None,
    looked_at: datetime | None = None,
) -> list[ScimTokenEvent]:
    """End the token's link; silent where there is none that opens anything.

    looked_at: when the caller saw the token, whose link of that time is meant; None for whichever
    it is. Raises NotFound once revoked, InvalidValue on a reason that `check_reason` refuses and
    where a link was made since.
    """
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
    link = _open_link(token, at)
    if link is None:
        return []
    _require_seen(link, looked_at)
    return [SetupLinkEnded(ended_by, link.id, reason)]


def _open_link(token: ScimToken, at: datetime) -> SetupLink | None:
    """The link of a token; None where there is none that opens anything."""
    link = token.setup_link
    return None if link is None or end_of(link, token) <= at else link


def _require_seen(link: SetupLink | None, looked_at: datetime | None) -> None:
    if link is not None and looked_at is not None:
        require_meant("setup link was made", link.not_before <= looked_at)


def opened_by(
    token: ScimToken | None, digests: Sequence[bytes], *, at: datetime
) -> SetupLink | None:
    """The link of a token if its digest is one of `digests`, which a code has under each key of
    the pepper, and it has not ended.

    In as much work for a token without a link, and for none, as for one with another link.
    """
    link = None if token is None else token.setup_link
    stored = NO_DIGEST if link is None else link.digest
    matches = [hmac.compare_digest(digest, stored) for digest in digests]
    if token is None or link is None or not any(matches):
        return None
    return link if at < end_of(link, token) else None


def end_of(link: SetupLink, token: ScimToken) -> datetime:
    """The first instant at which a token's link opens nothing."""
    ends_at = earliest(link.ends_at, token.expires_at)
    assert ends_at is not None
    return ends_at


def reveal(
    token: ScimToken | None,
    link_digests: Sequence[bytes],
    *,
    digest: Digest,
    holder: Actor,
    at: datetime,
) -> list[ScimTokenEvent]:
    """Give the token a new secret, which the holder of the link of `link_digests` is shown.

    A secret that nobody has used yet ends with this: whoever made the token saw it. One that is in
    use goes on for the overlap of a rotation. digest: of the new secret. holder: where it was
    shown; nobody is named. Raises NotFound for a link that opens nothing, SecretAlreadyShown the
    second time, RotationUnderway, RotatedTooSoon.
    """
    link = opened_by(token, link_digests, at=at)
    if token is None or link is None:
        raise NotFound("no such setup link")
    if link.revealed_at is not None:
        raise SecretAlreadyShown(token.id)
    overlap = timedelta(0) if token.last_used_at is None else rotation.DEFAULT_OVERLAP
    *before, rotated = rotation.rotate(
        token, digest=digest, overlap=overlap, rotated_by=holder, at=at
    )
    assert isinstance(rotated, Rotated)
    return [*before, msgspec.structs.replace(rotated, setup_link=link.id)]

"""The decisions of a rotation: a token gets another secret, while the older goes on. Pure.

It ends in one of four ways: completed or cancelled by somebody, finished by itself since the newer
secret is in use and the older one is not, or with the overlap.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import Final

import msgspec

from domain.errors import (
    InvalidValue,
    NoRotationUnderway,
    NotFound,
    RotatedTooSoon,
    RotationUnderway,
)
from domain.event import Actor
from domain.scim_token.events import (
    Rotated,
    RotationCancelled,
    RotationCompleted,
    RotationFinished,
    ScimTokenEvent,
)
from domain.scim_token.held_secret import HeldSecret
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_reason, require_meant
from domain.secret import Digest, SecretId

OVERLAP_MAX: Final = timedelta(days=30)
DEFAULT_OVERLAP: Final = OVERLAP_MAX
ROTATE_EVERY: Final = timedelta(seconds=10)
"""Nobody who takes a secret somewhere is quicker;
each rotation leaves an event and a digest for good.
"""
GOOD_SECRETS_MAX: Final = 2


def rotate(
    token: ScimToken,
    *,
    digest: Digest,
    overlap: timedelta,
    rotated_by: Actor,
    at: datetime,
    reason: str | None = None,
    meant: SecretId | None = None,
) -> list[ScimTokenEvent]:
    """Add a new secret; older ones go on for `overlap` (0 to 30 days).

    At most two are good at a time. That an overlap before it has ended is recorded first, where
    nobody did: afterwards nobody would know of it.

    meant: the newest secret that the caller has seen, None where it is whichever there is. Without
    an overlap the older ones end at once, however many there are. Raises NotFound once
    revoked, InvalidValue on an overlap out of range, a reason that `check_reason` refuses, a
    token that has expired or another newest secret than was meant, RotatedTooSoon within 10 s of
    the rotation before, RotationUnderway while the overlap of that one lasts.
    """
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
    if token.expires_at is not None and token.expires_at <= at:
        raise InvalidValue("", "the token has expired; create another")
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise InvalidValue(
            "/overlap_seconds", f"must be 0 to {OVERLAP_MAX // timedelta(seconds=1)}"
        )
    good = [held for held in token.secrets if held.overlap_until is None or at < held.overlap_until]
    require_meant("secret was made", meant in {good[-1].id, None})
    if token.rotated_at is not None and at < token.rotated_at + ROTATE_EVERY:
        raise RotatedTooSoon(ceil((token.rotated_at + ROTATE_EVERY - at).total_seconds()))
    if overlap and len(good) >= GOOD_SECRETS_MAX:
        raise RotationUnderway(
            "the token has two good secrets; complete or cancel its rotation, wait for the end of "
            "the older one, or rotate it without an overlap, which ends both at once"
        )
    return [
        *_over(token, at),
        Rotated(rotated_by=rotated_by, digest=digest, overlap_until=at + overlap, reason=reason),
    ]


def complete(
    token: ScimToken,
    *,
    completed_by: Actor,
    at: datetime,
    reason: str | None = None,
    meant: SecretId | None = None,
) -> list[ScimTokenEvent]:
    """End the older secret now: the newer one is where it belongs.

    meant: the secret that is to end, where somebody has named it; None for whichever it is.

    Raises InvalidValue on a reason that `check_reason` refuses and where another secret than the
    one that was meant would end, NotFound once revoked, and NoRotationUnderway.
    """
    check_reason(reason)
    older = _require_underway(token, at).id
    require_meant("rotation is under way", meant in {older, None})
    return [RotationCompleted(completed_by=completed_by, secret=older, reason=reason)]


def cancel(
    token: ScimToken,
    *,
    cancelled_by: Actor,
    at: datetime,
    reason: str | None = None,
    meant: SecretId | None = None,
) -> list[ScimTokenEvent]:
    """End the newer secret now, and let the older one go on as before. Raises what `complete` does.

    Once the older one has ended, this would leave the client without a good secret.
    """
    check_reason(reason)
    _require_underway(token, at)
    newer = token.secrets[-1].id
    require_meant("rotation is under way", meant in {newer, None})
    return [RotationCancelled(cancelled_by=cancelled_by, secret=newer, reason=reason)]


class FinishRule(msgspec.Struct, frozen=True):
    """When a rotation finishes by itself.

    silent_for: so long the older secret must not have been used. used_apart: so far apart two uses
    of the newer one after that must be, which is longer than any client's cycle: one that has still
    the older one, and could not call before, has called by then.
    """

    used_apart: timedelta = timedelta(minutes=45)
    silent_for: timedelta = timedelta(hours=2)


DEFAULT_RULE: Final = FinishRule()


class SecretsInUse(msgspec.Struct, frozen=True):
    """How the two secrets of a rotation are used, as a view knows it.

    newer: the id of the newer one. older_last_at, newer_last_at: their last uses, None where there
    was none. newer_again_at: a use of the newer one when the older one had been silent for long
    enough, the first that the view can tell; None where there was none. older_refused_until: the
    end of the last hour in which the older one was refused, None where it was not since its last
    use: a client outside of the token's networks has it still, and may be let in again.
    """

    newer: SecretId
    older_last_at: datetime | None
    newer_again_at: datetime | None
    newer_last_at: datetime | None
    older_refused_until: datetime | None = None


def finish(
    token: ScimToken, in_use: SecretsInUse, *, at: datetime, rule: FinishRule = DEFAULT_RULE
) -> list[ScimTokenEvent]:
    """Record that a rotation has finished by itself; silent where it has not.

    in_use: of the rotation that the caller means; of another one, it says nothing.
    """
    if token.revoked_at is not None or token.secrets[-1].id != in_use.newer:
        return []
    outgoing = underway(token, at)
    if outgoing is None:
        return _over(token, at)
    if token.suspended_at is None and is_silent(in_use, changed_at=token.updated_at, rule=rule):
        return [RotationFinished(secret=outgoing.id, cause="silent")]
    return []


def _over(token: ScimToken, at: datetime) -> list[ScimTokenEvent]:
    outgoing = token.outgoing
    if outgoing is None or not _has_ended(token, outgoing, at):
        return []
    return [RotationFinished(secret=outgoing.id, cause="over")]


def underway(token: ScimToken, at: datetime) -> HeldSecret | None:
    """The older secret of the rotation that is under way at `at`; None where none is."""
    outgoing = token.outgoing
    if token.revoked_at is not None or outgoing is None or _has_ended(token, outgoing, at):
        return None
    return outgoing


def _require_underway(token: ScimToken, at: datetime) -> HeldSecret:
    if token.revoked_at is not None:
        raise NotFound("no such token")
    outgoing = underway(token, at)
    if outgoing is None:
        raise NoRotationUnderway("no rotation is under way")
    return outgoing


def _has_ended(token: ScimToken, outgoing: HeldSecret, at: datetime) -> bool:
    return _is_over(at, ends=(outgoing.overlap_until, token.expires_at))


def _is_over(at: datetime, *, ends: Iterable[datetime | None]) -> bool:
    return any(end is not None and end <= at for end in ends)


def has_finished(event: RotationFinished, at: datetime, *, ends: Iterable[datetime | None]) -> bool:
    """Whether a rotation has finished, as was recorded at `at`; else nothing has changed.

    ends: of its older secret: of the overlap and of the token. A clock that was ahead saw them too
    early; a repair of ledger time has set the instant of what was recorded then right.
    """
    match event.cause:
        case "over":
            return _is_over(at, ends=ends)
        case "mistaken":
            return False
        case _:
            return True


def is_silent(in_use: SecretsInUse, *, changed_at: datetime, rule: FinishRule) -> bool:
    """Whether the newer secret is in use for sure, and the older one is not any more.

    The uses of the newer one show that a client could be let in: time in which nobody could be,
    because the service was away, is no silence, and neither is that of a client that calls and is
    refused. changed_at: when the token was changed last, by its rotation or after it. A suspension
    that was taken back is such a change, and silence begins anew with it.
    """
    again_at, last_at = in_use.newer_again_at, in_use.newer_last_at
    if again_at is None or last_at is None:
        return False
    heard_at = (changed_at, in_use.older_last_at, in_use.older_refused_until)
    silent_since = max(at for at in heard_at if at is not None)
    return again_at >= silent_since + rule.silent_for and last_at >= again_at + rule.used_apart

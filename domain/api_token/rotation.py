"""The rotation of an API token: it gets another secret, while the older goes on. Pure."""

from datetime import datetime, timedelta
from math import ceil
from typing import Final

from domain.api_token.events import ApiTokenEvent, Rotated
from domain.api_token.token import ApiToken, OlderSecret
from domain.errors import InvalidValue, NotFound, RotatedTooSoon, RotationUnderway
from domain.event import Actor
from domain.scim_token.rotation import OVERLAP_MAX, ROTATE_EVERY
from domain.scim_token.values import check_reason, require_meant
from domain.secret import Digest

DEFAULT_OVERLAP: Final = timedelta(days=1)
"""A job that runs every night has taken its new secret by then."""


def rotate(
    token: ApiToken,
    *,
    digest: Digest,
    overlap: timedelta,
    rotated_by: Actor,
    at: datetime,
    reason: str | None = None,
    looked_at: datetime | None = None,
) -> list[ApiTokenEvent]:
    """Add a new secret; the one before goes on for `overlap` (0 to 30 days).

    looked_at: when the caller saw the token, whose secret of that time is meant to be followed;
    None for whichever there is.

    Two are good at most, and without an overlap only the new one. Raises NotFound once revoked,
    InvalidValue on an overlap out of range, a reason that `check_reason` refuses, a token that has
    expired or was rotated since it was looked at, RotatedTooSoon within 10 s of the rotation
    before, RotationUnderway while the overlap of that one lasts.
    """
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such API token")
    if not token.is_good(at=at):
        raise InvalidValue("", "the token has expired; create another")
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        most = OVERLAP_MAX // timedelta(seconds=1)
        raise InvalidValue("/overlap_seconds", f"must be 0 to {most}")
    if token.rotated_at is not None and looked_at is not None:
        require_meant("secret was made", token.rotated_at <= looked_at)
    if token.rotated_at is not None and at < token.rotated_at + ROTATE_EVERY:
        raise RotatedTooSoon(ceil((token.rotated_at + ROTATE_EVERY - at).total_seconds()))
    if overlap and underway(token, at) is not None:
        raise RotationUnderway(
            "the token has two good secrets; wait for the end of the older one, or rotate it "
            "without an overlap, which ends both at once"
        )
    return [
        Rotated(rotated_by=rotated_by, digest=digest, overlap_until=at + overlap, reason=reason)
    ]


def underway(token: ApiToken, at: datetime) -> OlderSecret | None:
    """The older of two secrets that are good at `at`; None where one is, or none."""
    if not token.is_good(at=at):
        return None
    return next((old for old in reversed(token.older) if at < old.good_until), None)

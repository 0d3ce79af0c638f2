"""The decisions of a rotation: a token gets another secret, while the older goes on. Pure."""

from datetime import datetime, timedelta
from math import ceil
from typing import Final

from domain.errors import InvalidValue, NotFound, RotatedTooSoon, RotationUnderway
from domain.event import Actor
from domain.scim_token.events import Rotated, ScimTokenEvent
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_reason
from domain.secret import Digest

OVERLAP_MAX: Final = timedelta(days=30)
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
) -> list[ScimTokenEvent]:
    """Add a new secret; older ones go on for `overlap` (0 to 30 days).

    At most two are good at a time.

    Without an overlap the older ones end at once, however many there are. Raises NotFound once
    revoked, InvalidValue on an overlap out of range, a reason that `check_text` refuses or a
    token that has expired, RotatedTooSoon within 10 s of the rotation before, RotationUnderway
    while the overlap of that one lasts.
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
    if token.rotated_at is not None and at < token.rotated_at + ROTATE_EVERY:
        raise RotatedTooSoon(ceil((token.rotated_at + ROTATE_EVERY - at).total_seconds()))
    good = [held for held in token.secrets if held.overlap_until is None or at < held.overlap_until]
    if overlap and len(good) >= GOOD_SECRETS_MAX:
        raise RotationUnderway("the token has two good secrets; wait for the end of the older one")
    return [
        Rotated(rotated_by=rotated_by, digest=digest, overlap_until=at + overlap, reason=reason)
    ]

"""Decide which warnings about a SCIM token are true and were not told yet. Pure.

Silent otherwise, and of a token that is over: whoever asks may be late, or be one of two.
"""

from datetime import datetime

from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import (
    UNUSED_AFTER,
    Expired,
    Expiring,
    ScimTokenWarning,
    Unused,
    days_left,
)


def of_end(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
    """That the token ends soon or has ended.

    Of several that became true since the last one, the one that is true now.
    """
    if token.revoked_at is not None or token.expires_at is None:
        return []
    days = days_left(token.expires_at, at)
    told = token.told.days_before(token.expires_at)
    if days is None or (told is not None and told <= days):
        return []
    if days == 0:
        return [Expired(expires_at=token.expires_at)]
    return [Expiring(days=days, expires_at=token.expires_at)]


def of_silence(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
    """That a token which is good was not used for 90 days, once until it is used again."""
    since = token.last_used_at or token.created_at
    is_over = token.revoked_at is not None or (
        token.expires_at is not None and token.expires_at <= at
    )
    if is_over or at < since + UNUSED_AFTER or token.told.unused_since == since:
        return []
    return [Unused(since=since)]

"""Decide which warnings about a SCIM token are true and were not told yet. Pure.

Silent otherwise: whoever asks may be late, or be one of two. What lies ahead of a token is not told
once it is over; what happened is.
"""

from datetime import datetime

from domain.scim_token.rotation import underway
from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import (
    UNTIL_ROTATION_END,
    UNUSED_AFTER,
    Expired,
    Expiring,
    FirstUsed,
    OldSecretStillUsed,
    RotationEnding,
    ScimTokenWarning,
    Unused,
    UsedFromNewSource,
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


def of_silence(
    token: ScimToken, at: datetime, *, resumed_at: datetime | None
) -> list[ScimTokenWarning]:
    """That a token which is good was not used for 90 days, once until it is used again.

    resumed_at: when its last suspension was taken back, as a view knows it; None where there was
    none. Before that nobody could use it.
    """
    since = token.last_used_at or token.created_at
    cannot_be_used = (
        token.revoked_at is not None
        or token.suspended_at is not None
        or (token.expires_at is not None and token.expires_at <= at)
    )
    silent_since = max(since, resumed_at or since)
    if cannot_be_used or at < silent_since + UNUSED_AFTER or token.told.unused_since == since:
        return []
    return [Unused(since=since)]


def of_source(token: ScimToken, source: str, *, is_first: bool) -> list[ScimTokenWarning]:
    """That the token was used from `source` for the first time.

    source: an address, empty where it is not known. is_first: no use came from elsewhere before.
    All the others of a token are not kept in its state, which they would let grow without a bound:
    that they are told once rests on the view, which whoever asks has read up to the ledger's head,
    and on the id of the command.
    """
    if token.told.first_source == source:
        return []
    if is_first and token.told.first_source is None:
        return [FirstUsed(source=source or None)]
    return [UsedFromNewSource(source=source or None)]


def of_rotation_end(token: ScimToken, started_at: datetime, at: datetime) -> list[ScimTokenWarning]:
    """That the older secret of the rotation which began at `started_at` ends soon.

    Of one that ends with its token, the end of the token is warned of. That it has ended is no
    warning, but the finish of the rotation.
    """
    outgoing = underway(token, at)
    if outgoing is None or token.rotated_at != started_at:
        return []
    ends_at = outgoing.overlap_until
    assert ends_at is not None, "an outgoing secret has an end"
    if token.expires_at is not None and token.expires_at <= ends_at:
        return []
    days = days_left(ends_at, at, of=UNTIL_ROTATION_END)
    told = token.told.rotation_days
    if days is None or (told is not None and told <= days):
        return []
    return [RotationEnding(secret=outgoing.id, days=days, ends_at=ends_at)]


def of_old_secret(
    token: ScimToken, started_at: datetime, *, day: int, used_at: datetime, at: datetime
) -> list[ScimTokenWarning]:
    """That the older secret of the rotation which began at `started_at` is used still.

    day, used_at: its last use, as a view knows it; see `day_of_use`.
    """
    outgoing = underway(token, at)
    if outgoing is None or token.rotated_at != started_at:
        return []
    told = token.told.old_secret_day
    if told is not None and told >= day:
        return []
    return [OldSecretStillUsed(secret=outgoing.id, day=day, used_at=used_at)]

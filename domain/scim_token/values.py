"""What may be said of a SCIM token: its name, its end, a reason."""

from datetime import UTC, datetime, timedelta
from typing import Final

from domain.errors import InvalidValue
from domain.readable_text import check_text

NAME_MAX_LENGTH: Final = 255
REASON_MAX_LENGTH: Final = 200
EXPIRY_MAX: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Later instants cannot be read back in every time zone: one of them would stop a view."""
ENDLESS_DAYS: Final = 2**31 - 1
"""The life of a token that has no end, in days: longer than any other."""


def check_name(name: str) -> None:
    """Raise InvalidValue unless `name` can be that of a token."""
    check_text(name, "/name", max_length=NAME_MAX_LENGTH)


def check_reason(reason: str | None) -> None:
    """Raise InvalidValue unless `reason` can be the caller's words on a command; None for none."""
    if reason is not None:
        check_text(reason, "/reason", max_length=REASON_MAX_LENGTH)


def require_meant(what: str, is_meant: bool) -> None:
    """Raise InvalidValue where a command would undo what its caller has not seen.

    what: that there is, such as "rotation is under way".
    """
    if not is_meant:
        raise InvalidValue("", f"another {what} than the one that was meant; nothing was done")


def check_expiry(asked: datetime, *, after: datetime) -> None:
    """Raise InvalidValue unless a token that is made at `after` can end then."""
    if asked < after + timedelta(milliseconds=1):
        raise InvalidValue("/expires_at", "must be in the future")
    if asked >= EXPIRY_MAX:
        raise InvalidValue(
            "/expires_at", "must be before the year 9999; without it, there is no end"
        )


def kept_expiry(asked: datetime, *, after: datetime) -> datetime:
    """An expiry as it is kept: in UTC, whole milliseconds. Raises what `check_expiry` does."""
    check_expiry(asked, after=after)
    in_utc = asked.astimezone(UTC)
    return in_utc.replace(microsecond=in_utc.microsecond // 1000 * 1000)


def lifetime_days(created_at: datetime, expires_at: datetime | None) -> int:
    """From a token's creation to its end, in days of 24 hours, one that is begun counted whole."""
    if expires_at is None:
        return ENDLESS_DAYS
    return -((created_at - expires_at) // timedelta(days=1))

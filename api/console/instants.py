"""Tell instants as people do, and exactly where one looks closer."""

from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_UNITS: Final = ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"))
_BY_DATE_AFTER: Final = timedelta(days=60)


def read(instant: str | datetime) -> datetime:
    """An instant of a view, which tells it as text, or of the ledger."""
    return instant if isinstance(instant, datetime) else datetime.fromisoformat(instant)


def exact(instant: str | datetime) -> str:
    """To the second, UTC."""
    return read(instant).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(instant: str | datetime) -> str:
    """Such as "3 Nov 2026"."""
    at = read(instant).astimezone(UTC)
    return f"{at.day} {at:%b %Y}"


def relative(instant: str | datetime, now: datetime) -> str:
    """Such as "3 minutes ago" or "in 12 days"; the date where that is long ago or far away."""
    away = read(instant) - now
    if abs(away) > _BY_DATE_AFTER:
        return day(instant)
    for unit, word in _UNITS:
        if abs(away) >= unit:
            count = abs(away) // unit
            told = f"{count} {word}{'s' if count > 1 else ''}"
            return f"in {told}" if away > timedelta(0) else f"{told} ago"
    return "in a moment" if away > timedelta(0) else "just now"


def when(instant: str | datetime, now: datetime) -> Markup:
    """An element that tells an instant: at a glance how far away it is, on hover exactly when."""
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        read(instant).astimezone(UTC).isoformat(timespec="seconds"),
        exact(instant),
        relative(instant, now),
    )

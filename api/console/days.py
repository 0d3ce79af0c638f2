"""Days, as a form gives them: from their first instant to the first one after, UTC."""

from datetime import UTC, date, datetime, time, timedelta


def start_of(text: str) -> datetime:
    """The first instant of a day. Raises ValueError, which says what is wrong."""
    try:
        asked = date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a day, such as 2026-11-28") from None
    if not date(1970, 1, 1) <= asked < date(9000, 1, 1):
        raise ValueError("must be a day between 1970 and 9000")
    return datetime.combine(asked, time(), UTC)


def day_after(at: datetime) -> str:
    """The first day that has not begun yet, as a form gives it."""
    return (at + timedelta(days=1)).date().isoformat()


def last_within(span: timedelta, at: datetime) -> str:
    """The last day that is over when `span` is, as a form gives it."""
    return (at + span - timedelta(days=1)).date().isoformat()


def end_of(text: str) -> datetime:
    """The first instant after a day. Raises ValueError."""
    return start_of(text) + timedelta(days=1)

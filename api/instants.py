"""Instants, as query parameters give them: RFC 3339, with a time zone, in a range that any store can hold."""

from datetime import UTC, datetime
from typing import Final

from api.problems import BadRequest, FieldError

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def instant(name: str, value: datetime | None, *, latest: datetime | None = None) -> datetime | None:
    """The parameter's instant in UTC, None when it was not given. latest: the last one that makes sense.

    Raises BadRequest on one without a time zone, before 1970, or after `latest`.
    """
    if value is None:
        return None
    if value.tzinfo is None:
        raise _invalid(name, "needs a time zone, such as a Z at the end")
    if not _FIRST <= value < _LAST:
        raise _invalid(name, "is out of range")
    if latest is not None and value > latest:
        raise _invalid(name, "is in the future")
    return value.astimezone(UTC)


def _invalid(name: str, detail: str) -> BadRequest:
    return BadRequest("A parameter is not valid.", [FieldError(name, detail)])

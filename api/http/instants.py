"""Read instants that clients write: RFC 3339 with a time zone, and nothing else.

The framework, too, would read numbers as seconds since 1970, and fall over the large ones.
"""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from api.errors import BadRequest, FieldError

MUST_BE: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"
ZONE: Final = "needs a time zone, such as a Z at the end"
OUT_OF_RANGE: Final = "is out of range"
IN_THE_FUTURE: Final = "is in the future"
_FORM: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?(?P<zone>[Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
PATTERN: Final = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
"""What a client should send, where a document cannot say `date-time`."""
FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


class NoInstant(ValueError):
    """The text is none. detail: what it must be."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def parse(text: object) -> datetime:
    """The instant that the text says. Raises NoInstant."""
    form = _FORM.fullmatch(text) if isinstance(text, str) else None
    if form is None:
        raise NoInstant(MUST_BE)
    if form["zone"] is None:
        raise NoInstant(ZONE)
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:  # the form is right and there is no such day or hour
        raise NoInstant(MUST_BE) from None


def parse_in_range(text: object) -> datetime:
    """The same, between 1970 and 9000: any store holds it, in any zone. Raises NoInstant."""
    value = parse(text)
    if not FIRST <= value < LAST:
        raise NoInstant(OUT_OF_RANGE)
    return value


def instant(
    name: str, value: datetime | None, *, latest: datetime | None = None
) -> datetime | None:
    """The parameter's instant in UTC, None when it was not given.

    latest: the last one that makes sense.

    Raises BadRequest after `latest`.
    """
    if value is None:
        return None
    if latest is not None and value > latest:
        raise BadRequest("A parameter is not valid.", [FieldError(name, IN_THE_FUTURE)])
    return value.astimezone(UTC)


def span(from_: datetime | None, to: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The parameters `from` and `to` in UTC. Raises BadRequest where the end comes first."""
    if from_ is not None and to is not None and from_ > to:
        raise BadRequest(
            "A parameter is not valid.", [FieldError("from", "must not be after `to`")]
        )
    return instant("from", from_), instant("to", to)

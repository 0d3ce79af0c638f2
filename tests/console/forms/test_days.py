"""Days, as forms give and take them: whichever instant it is, they say what they are called."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.console.days import day_after, end_of, last_within, start_of

DAY: Final = timedelta(days=1)
MIDNIGHT: Final = datetime(2026, 11, 28, tzinfo=UTC)
INSTANTS: Final = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(at=INSTANTS, span=st.timedeltas(timedelta(0), 800 * DAY))
@example(at=MIDNIGHT, span=DAY)
@example(at=MIDNIGHT - timedelta(microseconds=1), span=DAY)
def test_days_around_an_instant(at: datetime, span: timedelta) -> None:
    """The next one begins after it, and no later than any other; the last of a span ends in it."""
    tomorrow = start_of(day_after(at))
    assert at < tomorrow <= at + DAY
    over = end_of(last_within(span, at))
    assert over <= at + span < over + DAY


@given(day=st.dates(date(1900, 1, 1)))
@example(day=date(1969, 12, 31))
@example(day=date(1970, 1, 1))
@example(day=date(8999, 12, 31))
@example(day=date(9000, 1, 1))
def test_a_day_is_taken_between_1970_and_9000(day: date) -> None:
    if 1970 <= day.year < 9000:
        assert start_of(day.isoformat()).date() == day
        assert end_of(day.isoformat()) - start_of(day.isoformat()) == DAY
    else:
        with pytest.raises(ValueError, match="between 1970 and 9000"):
            end_of(day.isoformat())

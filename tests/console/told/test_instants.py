"""Instants in words: never more than one unit off, and to the second where one looks closer."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from api.console.instants import day, exact, relative, when

NOW: Final = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
UNITS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(1)}
BY_DATE_AFTER: Final = timedelta(days=60)
TICK: Final = timedelta(microseconds=1)
AWAY: Final = st.timedeltas(-timedelta(days=90), timedelta(days=90)) | st.builds(
    lambda unit, count, beside: count * unit + beside * TICK,
    st.sampled_from(list(UNITS.values())),
    st.integers(-60, 60),
    st.integers(-1, 1),
)
ANYWHERE: Final = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours))),
)


@given(away=AWAY)
@example(away=BY_DATE_AFTER + TICK)
@example(away=-BY_DATE_AFTER)
@example(away=TICK)
@example(away=timedelta(0))
def test_how_far_away_it_is_told_in_the_largest_unit_that_it_fills(away: timedelta) -> None:
    told, size = relative(NOW + away, NOW), abs(away)
    filled = [unit for unit, length in UNITS.items() if size >= length]
    if size > BY_DATE_AFTER:
        assert told == day(NOW + away)
    elif not filled:
        assert told == ("in a moment" if away > timedelta(0) else "just now")
    else:
        said = re.fullmatch(r"(in )?([1-9]\d*) ([a-z]+?)(s?)( ago)?", told)
        assert said is not None, told
        to_come, count, unit, plural, past = said.groups()
        assert unit == filled[-1]
        assert int(count) * UNITS[unit] <= size < (int(count) + 1) * UNITS[unit]
        assert bool(plural) == (int(count) > 1)
        assert (bool(to_come), bool(past)) == (away > timedelta(0), away < timedelta(0))


@given(at=ANYWHERE)
def test_a_day_and_a_second_are_told_by_utc_wherever_the_instant_is_from(at: datetime) -> None:
    utc = at.astimezone(UTC)
    assert datetime.strptime(day(at), "%d %b %Y").date() == utc.date()  # noqa: DTZ007
    assert not day(at).startswith("0")
    second = datetime.strptime(exact(at), "%Y-%m-%d %H:%M:%S UTC")  # noqa: DTZ007
    assert second.replace(tzinfo=UTC) == utc.replace(microsecond=0)
    assert when(at.isoformat(), at) == when(at, at)
    machine = re.match(r'<time datetime="([^"]+)" title="([^"]+)">just now</time>$', when(at, at))
    assert machine is not None
    assert datetime.fromisoformat(machine[1]) == utc.replace(microsecond=0)
    assert machine[2] == exact(at)

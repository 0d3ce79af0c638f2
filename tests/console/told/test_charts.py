"""A chart shows what its words say: each day of use as a bar in its place, the busiest highest."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from api.console.charts import large, small, summary

NOW: Final = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
Draw: TypeAlias = Callable[[Sequence[int], datetime], Markup]
COUNTS: Final = st.lists(
    st.just(0) | st.integers(0, 9) | st.integers(0, 10**9), min_size=1, max_size=40
)


@given(counts=COUNTS, draw=st.sampled_from([small, large]))
@example(counts=[0, 1, 10**9], draw=small)
def test_each_day_of_use_has_a_bar_in_its_place(counts: list[int], draw: Draw) -> None:
    drawn = str(draw(counts, NOW))
    box = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    assert box is not None
    width, height = map(int, box.groups())
    bars = [tuple(map(int, bar)) for bar in re.findall(r"M(\d+) (\d+)v-(\d+)", drawn)]
    used = [(number, count) for number, count in enumerate(counts) if count]
    assert [x * len(counts) // width for x, _, _ in bars] == [number for number, _ in used]
    assert all(2 <= high < foot < height for _, foot, high in bars), "seen, and whole"
    most = max(counts)
    for (_, _, high), (_, count) in zip(bars, used, strict=True):
        share = count * (height - 2) / most
        assert abs(high - max(2, share)) <= 0.5
    assert f'aria-label="{summary(counts, NOW)}"' in drawn


@given(counts=COUNTS)
@example(counts=[1])
@example(counts=[0, 2, 2])
def test_its_words_tell_how_many_and_when_most(counts: list[int]) -> None:
    said = summary(counts, NOW)
    within = f" in {len(counts)} days"
    if not any(counts):
        assert said == f"No use{within}"
        return
    found = re.fullmatch(rf"([\d,]+) uses?{within}, most on (\d+ \w+ \d+): ([\d,]+)", said)
    assert found is not None, said
    total, on, most = found.groups()
    assert (f"{sum(counts):,}", f"{max(counts):,}") == (total, most)
    assert (" uses " in said) == (sum(counts) > 1)
    busiest = datetime.strptime(on, "%d %b %Y").replace(tzinfo=UTC).date()
    ago = (NOW.date() - busiest).days
    assert counts[::-1][ago] == max(counts)

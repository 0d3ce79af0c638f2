"""Charts as SVG, drawn here: no script draws anything, and the policy allows no style in a page."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from markupsafe import Markup

from api.console.instants import day

DAYS: Final = 30
_STEP: Final = 4
_SMALL: Final = 22
_SVG: Final = Markup(
    '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="none">'
    '<path class="floor" d="M0 {}H{}"/><path class="bars" d="{}"/></svg>'
)


def small(counts: Sequence[int], now: datetime) -> Markup:
    """A row's chart: a bar for each day, the last one today."""
    return _drawn("spark", counts, height=_SMALL, told=summary(counts, now))


def large(counts: Sequence[int], now: datetime) -> Markup:
    """The same, as high as a page has room for."""
    return _drawn("chart", counts, height=4 * _SMALL, told=summary(counts, now))


def summary(counts: Sequence[int], now: datetime) -> str:
    """What the chart shows, in words."""
    total = sum(counts)
    if not total:
        return f"No use in {len(counts)} days"
    most = max(counts)
    when = day(now - timedelta(days=len(counts) - 1 - counts.index(most)))
    return (
        f"{total:,} use{'s' if total > 1 else ''} in {len(counts)} days, most on {when}: {most:,}"
    )


def _drawn(kind: str, counts: Sequence[int], *, height: int, told: str) -> Markup:
    """A day with any use has a bar that can be seen, however busy the busiest one is."""
    most, room = max(counts), height - 2
    bars = "".join(
        f"M{number * _STEP + 2} {height - 1}v-{max(2, round(count * room / most))}"
        for number, count in enumerate(counts)
        if count
    )
    width = len(counts) * _STEP
    return _SVG.format(kind, width, height, told, height - 0.5, width, bars)

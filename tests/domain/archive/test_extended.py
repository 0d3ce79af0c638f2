"""given / when / then for the `Archive`."""

from datetime import timedelta
from functools import reduce
from typing import Any, Final

import pytest

from domain.archive.extended import (
    ARCHIVE_ID,
    Archive,
    Extended,
    NotTheNextStretch,
    Stretch,
    evolve,
    extend,
    in_words,
)
from domain.event import Recorded
from tests.domain.scenario import ADA, COMMAND_ID, T0


def stretch(after: int, until: int) -> Stretch:
    return Stretch(after, until, T0, until - after, 3, 4, "5e" * 32, "0f" * 32)


FIRST, SECOND = stretch(0, 10), stretch(10, 25)


def given(*stretches: Stretch) -> Archive | None:
    events = [event for each in stretches for event in decided(each)]
    recorded = [
        Recorded(ARCHIVE_ID, version, T0 + version * timedelta(seconds=1), COMMAND_ID, event)
        for version, event in enumerate(events, start=1)
    ]
    return reduce(evolve, recorded, None)


def decided(each: Stretch) -> list[Extended]:
    before = Archive(ARCHIVE_ID, 1, each.after, T0) if each.after else None
    return extend(before, each, by=ADA)


def test_a_stretch_follows_the_one_before() -> None:
    (event,) = extend(given(FIRST), SECOND, by=ADA)
    told: Any = {name: getattr(event, name) for name in Stretch.__struct_fields__}
    assert Stretch(**told) == SECOND
    assert event.archived_by == ADA
    assert given(FIRST, SECOND) == Archive(ARCHIVE_ID, 2, 25, T0)
    assert in_words(event) == "events 11 to 25; 3 left the ledger"


NOT_NEXT: Final = [
    ((), SECOND),
    ((FIRST,), FIRST),
    ((FIRST,), stretch(11, 25)),
    ((FIRST,), stretch(9, 25)),
    ((FIRST, SECOND), SECOND),
]


@pytest.mark.parametrize(("before", "asked"), NOT_NEXT)
def test_any_other_is_refused(before: tuple[Stretch, ...], asked: Stretch) -> None:
    with pytest.raises(NotTheNextStretch):
        extend(given(*before), asked, by=ADA)

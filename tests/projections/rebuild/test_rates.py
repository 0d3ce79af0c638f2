"""How fast a rebuild goes and when it will be done, as its row has it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projections.rebuild.requests import Rebuild

BEGAN = datetime(2021, 8, 10, tzinfo=UTC)


@given(
    position=st.integers(0, 10**9),
    target=st.integers(0, 10**9),
    elapsed_s=st.integers(0, 10**6) | st.none(),
    is_over=st.booleans(),
)
@example(position=600, target=900, elapsed_s=3, is_over=False)
@example(position=600, target=900, elapsed_s=3, is_over=True)
@example(position=600, target=500, elapsed_s=3, is_over=False)
@example(position=0, target=900, elapsed_s=3, is_over=False)
@example(position=600, target=900, elapsed_s=0, is_over=False)
@example(position=600, target=900, elapsed_s=None, is_over=False)
def test_what_is_left_takes_as_long_by_event_as_what_is_done(
    *, position: int, target: int, elapsed_s: int | None, is_over: bool
) -> None:
    now = BEGAN + timedelta(seconds=elapsed_s or 0)
    told = Rebuild(
        name="scim_tokens",
        state="done" if is_over else "building",
        version=2,
        position=position,
        target=target,
        error=None,
        accepts_difference=False,
        requested_at=BEGAN - timedelta(days=1),
        started_at=None if elapsed_s is None else BEGAN,
        updated_at=now,
        finished_at=now if is_over else None,
    )
    if not elapsed_s or not position:
        assert (told.events_per_s, told.eta_s) == (None, None)
        return
    assert told.events_per_s == pytest.approx(position / elapsed_s)
    left_s = pytest.approx(max(0, target - position) * elapsed_s / position)
    assert told.eta_s == (None if is_over else left_s)

"""The tally of refusals that name no token: given / when / then."""

from datetime import timedelta
from uuid import UUID

import pytest

from domain.event import Recorded
from domain.refusals.tally import Counted, RefusalTally, TallyKey, evolve
from tests.domain.scenario import COMMAND_ID, T0, T1

KEY = TallyKey("unknown", "scim", T0)


def counted(count: int) -> Counted:
    return Counted(reason=KEY.reason, door=KEY.door, minute=KEY.minute, count=count)


def state_after(*events: Counted) -> RefusalTally | None:
    tally = None
    for version, event in enumerate(events, start=1):
        tally = evolve(tally, Recorded(KEY.id, version, T1, COMMAND_ID, event))
    return tally


def test_what_is_counted_is_recorded_as_one_event() -> None:
    assert RefusalTally.add(KEY, 17) == [counted(17)]


@pytest.mark.parametrize("count", [0, -1])
def test_to_count_nothing_is_a_mistake_of_ours(count: int) -> None:
    with pytest.raises(AssertionError):
        RefusalTally.add(KEY, count)


def test_a_minute_is_a_whole_one() -> None:
    with pytest.raises(AssertionError):
        RefusalTally.add(KEY._replace(minute=T0 + timedelta(seconds=1)), 1)


def test_counts_add_up() -> None:
    tally = state_after(counted(2), counted(40))
    assert tally == RefusalTally(
        id=KEY.id, version=2, reason="unknown", door="scim", minute=T0, count=42
    )


def test_it_opens_no_door() -> None:
    tally = state_after(counted(1))
    assert tally is not None
    assert tally.secret_rows() == []
    assert (tally.stream_team, tally.last_used_at, tally.uses) == (None, None, 0)


def test_a_gap_in_the_stream_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        evolve(None, Recorded(KEY.id, 2, T1, COMMAND_ID, counted(1)))
    with pytest.raises(AssertionError):
        evolve(state_after(counted(1)), Recorded(KEY.id, 3, T1, COMMAND_ID, counted(1)))


def test_reason_door_and_minute_each_make_another_tally() -> None:
    others = [KEY._replace(reason="missing"), KEY._replace(door="nginx"), KEY._replace(minute=T1)]
    assert len({KEY.id, *(other.id for other in others)}) == 4


def test_its_id_is_the_same_in_every_process_and_release() -> None:
    assert KEY.id == UUID("c943b35a-b4f0-5b11-9bed-f69029c3859c")

"""Warnings about a rotation: that it ends soon, and that its older secret is used still."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from domain.scim_token import warn
from domain.scim_token.events import ScimTokenEvent
from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import OldSecretStillUsed, RotationEnding, day_of_use
from tests.domain.scenario import (
    MILLISECOND,
    MINUTE,
    T0,
    T1,
    THIRD,
    Given,
    cancelled,
    completed,
    created,
    finished,
    given,
    revoked,
    rotated,
    suspended,
)

DAY = timedelta(days=1)
OVERLAP = 30 * DAY
END = T1 + OVERLAP
ROTATING = created(), rotated(T1, overlap=OVERLAP)
OLDER = "01010101"


def ending(days: int, ends_at: datetime = END) -> RotationEnding:
    return RotationEnding(secret=OLDER, days=days, ends_at=ends_at)


def warned(days: int) -> Given:
    return ending(days), END - days * DAY


def still_used(day: int) -> OldSecretStillUsed:
    return OldSecretStillUsed(secret=OLDER, day=day, used_at=T1 + day * DAY)


def told(day: int) -> Given:
    return still_used(day), T1 + day * DAY + MINUTE


Command = Callable[[ScimToken], list[ScimTokenEvent]]


def of_end(at: datetime, started_at: datetime = T1) -> Command:
    return lambda token: [*warn.of_rotation_end(token, started_at, at)]


def of_use(day: int, at: datetime | None = None, started_at: datetime = T1) -> Command:
    used_at = T1 + day * DAY
    return lambda token: [
        *warn.of_old_secret(token, started_at, day=day, used_at=used_at, at=at or used_at + MINUTE)
    ]


@pytest.mark.parametrize("days", [7, 1])
def test_it_is_ending_from_the_instant_on_that_lies_so_many_days_before_its_end(days: int) -> None:
    before = [warned(earlier) for earlier in (7,) if earlier > days]
    at = END - days * DAY
    given(*ROTATING, *before).when(of_end(at - MILLISECOND)).stays_silent()
    given(*ROTATING, *before).when(of_end(at)).records(ending(days))


@pytest.mark.parametrize("days", [7, 1])
def test_each_threshold_is_told_once(days: int) -> None:
    given(*ROTATING, warned(days)).when(of_end(END - (days - 0.5) * DAY)).stays_silent()


def test_of_thresholds_that_passed_meanwhile_the_one_that_is_true_now_is_told() -> None:
    given(*ROTATING).when(of_end(END - DAY / 2)).records(ending(1))


def test_of_a_rotation_that_ends_with_its_token_the_end_of_the_token_is_told() -> None:
    before, after = created(expires_at=END), created(expires_at=END + MILLISECOND)
    given(before, rotated(T1, overlap=OVERLAP)).when(of_end(END - DAY)).stays_silent()
    given(after, rotated(T1, overlap=OVERLAP)).when(of_end(END - DAY)).records(ending(1))


ENDED = {
    "completed": completed(T1 + DAY),
    "cancelled": cancelled(T1 + DAY),
    "finished": finished(T1 + DAY),
    "revoked": revoked(T1 + DAY),
}


@pytest.mark.parametrize("command", [of_end(END - DAY), of_use(2)])
@pytest.mark.parametrize("end", ENDED)
def test_nothing_is_told_of_a_rotation_that_has_ended(end: str, command: Command) -> None:
    given(*ROTATING, ENDED[end]).when(command).stays_silent()


@pytest.mark.parametrize("command", [of_end(END), of_use(29, END)])
def test_nothing_is_told_once_the_overlap_is_over(command: Command) -> None:
    given(*ROTATING).when(command).stays_silent()


@pytest.mark.parametrize("command", [of_end(T1), of_use(2)])
def test_nothing_is_told_where_there_is_no_rotation(command: Command) -> None:
    given(created()).when(command).stays_silent()
    given(created(), rotated(T1, overlap=timedelta(0))).when(command).stays_silent()


@pytest.mark.parametrize("command", [of_end(END - DAY, T1 - DAY), of_use(2, started_at=T1 - DAY)])
def test_what_is_due_of_an_earlier_rotation_is_not_told_of_this_one(command: Command) -> None:
    given(*ROTATING).when(command).stays_silent()


def test_another_rotation_of_the_same_secret_is_told_of_anew() -> None:
    again_at = END - DAY / 4
    again = rotated(again_at, digest=THIRD, overlap=DAY)
    life = *ROTATING, warned(7), warned(1), told(2), cancelled(END - DAY / 2), again
    given(*life).when(of_end(again_at, again_at)).records(ending(1, again_at + DAY))
    given(*life).when(of_use(1, again_at + MINUTE, again_at)).records(still_used(1))


def test_that_it_ends_is_told_while_the_token_is_suspended() -> None:
    """Its overlap goes on, and whoever resumes it finds one secret."""
    given(*ROTATING, suspended(T1 + DAY)).when(of_end(END - DAY)).records(ending(1))


def test_a_use_of_the_older_secret_is_told_once_a_day() -> None:
    given(*ROTATING).when(of_use(2)).records(still_used(2))
    given(*ROTATING, told(2)).when(of_use(2)).stays_silent()
    given(*ROTATING, told(2)).when(of_use(1)).stays_silent()
    given(*ROTATING, told(2)).when(of_use(3)).records(still_used(3))


def test_the_first_day_of_a_rotation_is_for_the_client_to_be_told_the_newer_secret() -> None:
    assert day_of_use(T0, None, at=T0 + DAY) is None
    assert day_of_use(T0, T0 + DAY - MILLISECOND, at=T0 + DAY) is None
    assert day_of_use(T0, T0 + DAY, at=T0 + DAY) == 1
    assert day_of_use(T0, T0 + 3 * DAY - MILLISECOND, at=T0 + 3 * DAY) == 2


def test_a_use_that_is_more_than_a_day_ago_is_not_told_any_more() -> None:
    used_at = T0 + 2 * DAY
    assert day_of_use(T0, used_at, at=used_at + DAY - MILLISECOND) == 2
    assert day_of_use(T0, used_at, at=used_at + DAY) is None

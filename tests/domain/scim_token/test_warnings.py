"""Warnings about a SCIM token: told when they are true, once, and never of one that is over."""

from datetime import datetime, timedelta

import pytest

from domain.scim_token import warn
from domain.scim_token.events import ScimTokenEvent
from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import (
    UNUSED_AFTER,
    Expired,
    Expiring,
    FirstUsed,
    ScimTokenWarning,
    Unused,
    UsedFromNewSource,
    first_warning_at,
    next_warning_at,
)
from tests.domain.scenario import (
    MILLISECOND,
    T0,
    T1,
    T2,
    T3,
    Given,
    created,
    given,
    resumed,
    revoked,
    state_after,
    suspended,
    used,
)

DAY = timedelta(days=1)
END = T0 + 365 * DAY
LONG = created(expires_at=END)


def told(event: ScimTokenEvent, *, days_before: float = 0) -> Given:
    """A warning that was told so long before the end."""
    return event, END - days_before * DAY


def expiring(days: int, *, days_before: float | None = None) -> Given:
    return told(
        Expiring(days=days, expires_at=END),
        days_before=days if days_before is None else days_before,
    )


@pytest.mark.parametrize("days", [30, 7, 1])
def test_a_token_is_expiring_from_the_instant_on_that_lies_so_many_days_before_its_end(
    days: int,
) -> None:
    before = [expiring(earlier) for earlier in (30, 7) if earlier > days]
    at = END - days * DAY
    given(LONG, *before).when(lambda t: warn.of_end(t, at - MILLISECOND)).stays_silent()
    given(LONG, *before).when(lambda t: warn.of_end(t, at)).records(
        Expiring(days=days, expires_at=END)
    )


@pytest.mark.parametrize("days", [30, 7, 1])
def test_each_threshold_is_told_once(days: int) -> None:
    given(LONG, expiring(days)).when(
        lambda t: warn.of_end(t, END - (days - 0.5) * DAY)
    ).stays_silent()


def test_of_thresholds_that_passed_meanwhile_the_one_that_is_true_now_is_told() -> None:
    given(LONG).when(lambda t: warn.of_end(t, END - 5 * DAY)).records(
        Expiring(days=7, expires_at=END)
    )
    given(LONG, expiring(7, days_before=5)).when(
        lambda t: warn.of_end(t, END - 4 * DAY)
    ).stays_silent()


def test_a_token_that_is_made_for_less_than_a_day_is_expiring_from_the_beginning() -> None:
    given(created(expires_at=T1)).when(lambda t: warn.of_end(t, T0)).records(
        Expiring(days=1, expires_at=T1)
    )


def test_the_end_is_told_once_from_its_instant_on() -> None:
    given(LONG, expiring(1)).when(lambda t: warn.of_end(t, END - MILLISECOND)).stays_silent()
    given(LONG, expiring(1)).when(lambda t: warn.of_end(t, END)).records(Expired(expires_at=END))
    given(LONG, told(Expired(expires_at=END))).when(
        lambda t: warn.of_end(t, END + 99 * DAY)
    ).stays_silent()


def test_an_end_that_was_missed_altogether_is_told_as_such() -> None:
    given(LONG).when(lambda t: warn.of_end(t, END + 7 * DAY)).records(Expired(expires_at=END))


def test_a_token_without_an_end_is_never_expiring() -> None:
    given(created()).when(lambda t: warn.of_end(t, END)).stays_silent()


def silence(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
    """Of one that was never suspended."""
    return warn.of_silence(token, at, resumed_at=None)


@pytest.mark.parametrize("decide", [warn.of_end, silence])
def test_of_a_revoked_token_nothing_is_told(decide: object) -> None:
    assert callable(decide)
    given(LONG, revoked()).when(lambda t: decide(t, END - DAY)).stays_silent()
    given(created(), revoked()).when(lambda t: decide(t, END)).stays_silent()


def test_a_token_is_unused_ninety_days_after_its_creation() -> None:
    at = T0 + UNUSED_AFTER
    given(created()).when(lambda t: silence(t, at - MILLISECOND)).stays_silent()
    given(created()).when(lambda t: silence(t, at)).records(Unused(since=T0))


def test_a_token_is_unused_ninety_days_after_its_last_use() -> None:
    at = T2 + UNUSED_AFTER
    life = created(), used(T1), used(T2)
    given(*life).when(lambda t: silence(t, at - MILLISECOND)).stays_silent()
    given(*life).when(lambda t: silence(t, at)).records(Unused(since=T2))


def test_each_silence_is_told_once() -> None:
    at = T1 + UNUSED_AFTER
    life = created(), used(T1), (Unused(since=T1), at)
    given(*life).when(lambda t: silence(t, at + 99 * DAY)).stays_silent()
    again = at + DAY
    given(*life, used(again)).when(lambda t: silence(t, again + UNUSED_AFTER)).records(
        Unused(since=again)
    )


def test_that_nobody_uses_it_is_not_told_of_a_token_that_has_ended() -> None:
    given(created(expires_at=T1)).when(lambda t: silence(t, T0 + UNUSED_AFTER)).stays_silent()


def test_a_warning_is_no_use_and_no_change() -> None:
    before = state_after(LONG, used(T1))
    after = state_after(
        LONG,
        used(T1),
        (Unused(since=T1), T1 + UNUSED_AFTER),
        expiring(30),
        told(Expired(expires_at=END)),
    )

    def rest(token: ScimToken) -> list[object]:
        kept = set(token.__struct_fields__) - {"version", "told"}
        return [getattr(token, name) for name in sorted(kept)]

    assert rest(after) == rest(before)


def test_the_first_warning_of_an_end_is_not_due_before_the_end_was_decided() -> None:
    assert first_warning_at(END, after=T0) == END - 30 * DAY
    assert first_warning_at(END, after=END - DAY) == END - DAY


def test_the_next_warning_of_an_end_is_due_a_threshold_later() -> None:
    assert next_warning_at(END, told=30) == END - 7 * DAY
    assert next_warning_at(END, told=7) == END - DAY
    assert next_warning_at(END, told=1) == END
    assert next_warning_at(END, told=0) is None


HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_the_first_use_is_told_with_its_address() -> None:
    given(created(), used(T1)).when(lambda t: warn.of_source(t, HERE, is_first=True)).records(
        FirstUsed(source=HERE)
    )


def test_a_first_use_of_unknown_address_is_told_without() -> None:
    given(created(), used(T1)).when(lambda t: warn.of_source(t, "", is_first=True)).records(
        FirstUsed(source=None)
    )


@pytest.mark.parametrize("source", [HERE, ""])
def test_the_first_use_is_told_once(source: str) -> None:
    told = created(), used(T1), (FirstUsed(source=source or None), T1)
    given(*told).when(lambda t: warn.of_source(t, source, is_first=True)).stays_silent()
    given(*told).when(lambda t: warn.of_source(t, source, is_first=False)).stays_silent()


def test_each_further_address_is_new() -> None:
    told = created(), used(T1), (FirstUsed(source=HERE), T1)
    given(*told).when(lambda t: warn.of_source(t, THERE, is_first=False)).records(
        UsedFromNewSource(source=THERE)
    )
    given(*told).when(lambda t: warn.of_source(t, "", is_first=False)).records(
        UsedFromNewSource(source=None)
    )


def test_a_token_that_was_used_before_anybody_told_was_not_used_for_the_first_time() -> None:
    given(created(), used(T1), used(T2)).when(
        lambda t: warn.of_source(t, THERE, is_first=False)
    ).records(UsedFromNewSource(source=THERE))


def test_what_happened_is_told_of_a_revoked_token_too() -> None:
    given(created(), used(T1), revoked(T2)).when(
        lambda t: warn.of_source(t, HERE, is_first=True)
    ).records(FirstUsed(source=HERE))


def test_that_nobody_uses_it_is_not_told_of_a_token_while_it_is_suspended() -> None:
    at = T0 + UNUSED_AFTER
    given(created(), suspended(T1)).when(lambda t: silence(t, at)).stays_silent()


@pytest.mark.parametrize(
    ("life", "since"), [((created(),), T0), ((created(), used(T1)), T1)], ids=["never", "once"]
)
def test_a_suspension_that_was_taken_back_is_no_silence(
    life: tuple[Given, ...], since: datetime
) -> None:
    resumed_at = T2 + UNUSED_AFTER
    at = resumed_at + UNUSED_AFTER
    past = given(*life, suspended(T2), resumed(resumed_at))
    past.when(lambda t: warn.of_silence(t, at - MILLISECOND, resumed_at=resumed_at)).stays_silent()
    past.when(lambda t: warn.of_silence(t, at, resumed_at=resumed_at)).records(Unused(since=since))


def test_a_use_after_a_suspension_counts_from_itself() -> None:
    at = T3 + UNUSED_AFTER
    past = given(created(), suspended(T1), resumed(T2), used(T3))
    past.when(lambda t: warn.of_silence(t, at - MILLISECOND, resumed_at=T2)).stays_silent()
    past.when(lambda t: warn.of_silence(t, at, resumed_at=T2)).records(Unused(since=T3))

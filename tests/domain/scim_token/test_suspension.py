"""Suspend and resume: given / when / then."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from domain.errors import InvalidValue, NotFound, TokenExpired, TokenRevoked, TokenSuspended
from domain.leaks.holder import Holder
from domain.scim_token.changes import resume, suspend
from domain.scim_token.events import (
    Refused,
    Resumed,
    Revoked,
    Rotated,
    ScimTokenEvent,
    Suspended,
)
from domain.scim_token.rotation import rotate
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id
from tests.domain.scenario import (
    ADA,
    FIRST,
    IDP,
    MILLISECOND,
    MINUTE,
    SECOND,
    T1,
    T2,
    T3,
    T4,
    Given,
    created,
    given,
    resumed,
    revoked,
    rotated,
    state_after,
    suspended,
)

Decide = Callable[[ScimToken], Sequence[ScimTokenEvent]]


def suspending(reason: str | None = None) -> Decide:
    return lambda token: suspend(token, by=ADA, reason=reason)


def resuming(reason: str | None = None) -> Decide:
    return lambda token: resume(token, by=ADA, reason=reason)


def test_a_token_is_suspended_once() -> None:
    given(created()).when(suspending("odd calls")).records(Suspended(ADA, "odd calls"))
    given(created(), suspended()).when(suspending()).stays_silent()


def test_a_suspended_token_is_resumed_once() -> None:
    given(created(), suspended()).when(resuming("it was us")).records(Resumed(ADA, "it was us"))
    given(created()).when(resuming()).stays_silent()
    given(created(), suspended(), resumed()).when(resuming()).stays_silent()


def test_another_suspension_than_the_one_that_is_meant_stays() -> None:
    again = given(created(), suspended(T1), resumed(T2), suspended(T3))
    again.when(lambda token: resume(token, by=ADA, reason=None, meant=T1)).refuses(InvalidValue)
    again.when(lambda token: resume(token, by=ADA, reason=None, meant=T3)).records(
        Resumed(ADA, None)
    )


@pytest.mark.parametrize("decide", [suspending(), resuming()])
def test_what_is_revoked_stays_so(decide: Decide) -> None:
    given(created(), revoked()).when(decide).refuses(NotFound)
    given(created(), suspended(), revoked(T2)).when(decide).refuses(NotFound)


@pytest.mark.parametrize("decide", [suspending("x" * 201), resuming("")])
def test_a_reason_is_readable_and_short(decide: Decide) -> None:
    given(created(), suspended()).when(decide).refuses(InvalidValue, pointer="/reason")


@pytest.mark.parametrize("at", [T1, T1 + MILLISECOND, T4])
def test_no_secret_authenticates_while_it_is_suspended_by_no_clock(at: object) -> None:
    token = state_after(created(), rotated(T1, overlap=timedelta(days=30)), suspended(T1))
    for digest in (FIRST, SECOND):
        refusal = token.refusal(digest.value, at=at)  # type: ignore[arg-type]
        assert isinstance(refusal, TokenSuspended)
    assert token.suspended_at == token.updated_at == T1


def test_resumed_the_secrets_are_good_as_far_as_their_ends_allow() -> None:
    overlap = timedelta(hours=1)
    token = state_after(created(), rotated(T1, overlap=overlap), suspended(T1), resumed(T2))
    assert token.refusal(FIRST.value, at=T2) is not None  # its overlap ended meanwhile
    assert token.refusal(SECOND.value, at=T2) is None
    assert (token.suspended_at, token.updated_at) == (None, T2)


def test_while_suspended_a_token_is_rotated_and_revoked_as_ever() -> None:
    day = timedelta(days=1)
    given(created(), suspended()).when(
        lambda token: rotate(token, digest=SECOND, overlap=day, rotated_by=ADA, at=T2)
    ).records(Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2 + day))
    token = state_after(created(), suspended(), rotated(T2))
    assert isinstance(token.refusal(SECOND.value, at=T3), TokenSuspended)
    given(created(), suspended()).when(lambda token: token.revoke(by=ADA, reason=None)).records(
        Revoked(revoked_by=ADA, reason=None)
    )
    gone = state_after(created(), suspended(), revoked(T2))
    assert isinstance(gone.refusal(FIRST.value, at=T3), TokenRevoked)


@pytest.mark.parametrize(
    ("past", "digest"),
    [
        ([created(expires_at=T2)], FIRST),
        ([created(), rotated(T1, overlap=T2 - T1)], FIRST),
        ([created(expires_at=T2), rotated(T1, overlap=timedelta(days=30))], SECOND),
    ],
)
def test_what_is_over_for_good_is_not_told_as_suspended(past: list[Given], digest: Digest) -> None:
    """Or somebody resumes the token, and to no avail."""
    token = state_after(*past, suspended(T1))
    assert isinstance(token.refusal(digest.value, at=T2 - MILLISECOND), TokenSuspended)
    assert isinstance(token.refusal(digest.value, at=T2), TokenExpired)
    (refused,) = token.refuse(digest.value, presentation=IDP, at=T2)
    assert isinstance(refused, Refused)
    assert refused.reason == "expired"
    assert Holder(token, (digest.value,)).state(at=T2) == "expired"


def test_whoever_holds_a_suspended_secret_can_burn_the_token() -> None:
    """Once it is resumed, the secret that they wanted to end would be good again."""
    given(created(), suspended()).when(
        lambda token: token.burn(FIRST.value, at=T2, presentation=IDP)
    ).records(Revoked(None, None, IDP, secret=secret_id(FIRST.value)))


@pytest.mark.parametrize(
    "past",
    [
        [created(expires_at=T2), suspended()],
        [created(), rotated(T1, overlap=MINUTE), suspended(T1)],
    ],
)
def test_but_not_with_one_whose_time_is_over(past: list[tuple[ScimTokenEvent, datetime]]) -> None:
    given(*past).when(lambda token: token.burn(FIRST.value, at=T2, presentation=IDP)).stays_silent()


def test_the_trail_is_told_why_a_suspended_secret_was_refused() -> None:
    (event,) = state_after(created(), suspended()).refuse(FIRST.value, presentation=IDP, at=T2)
    assert getattr(event, "reason", None) == "suspended"

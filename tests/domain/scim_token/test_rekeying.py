"""A secret is digested anew under a newer key: once, while it is good, and called as before."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from domain.errors import TokenExpired, TokenUnknown
from domain.scim_token.events import Refused, Rekeyed, Revoked, ScimTokenEvent, Used
from domain.scim_token.rekeying import rekey
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id
from tests.domain.scenario import (
    ANEW,
    FIRST,
    IDP,
    MILLISECOND,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    UNKNOWN,
    Given,
    created,
    given,
    rekeyed,
    revoked,
    rotated,
    state_after,
)

NEWER = Digest(bytes([31]) * 32, 3)
NAME = secret_id(FIRST.value)
OVERLAP = timedelta(hours=1)


def rekeying(
    digest: Digest = FIRST, anew: Digest = ANEW
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: rekey(token, digest.value, anew=anew, at=T2)


def test_a_good_secret_is_digested_anew_once() -> None:
    given(created()).when(rekeying()).records(Rekeyed(secret=NAME, digest=ANEW))
    given(created(), rekeyed()).when(rekeying()).stays_silent()
    given(created(), rekeyed()).when(rekeying(ANEW)).stays_silent()


def test_and_again_under_the_next_key_called_as_at_first() -> None:
    given(created(), rekeyed()).when(rekeying(ANEW, NEWER)).records(Rekeyed(NAME, NEWER))
    token = state_after(created(), rekeyed(), rekeyed(T2, anew=NEWER))
    assert [(held.digest, held.id) for held in token.secrets] == [(NEWER, NAME)]


@pytest.mark.parametrize(
    "history",
    [
        [created(), revoked(T1)],
        [created(expires_at=T2)],
        [created(), rotated(T0 + MILLISECOND, overlap=OVERLAP)],
        [created(), rotated(T0, overlap=OVERLAP), rotated(T1)],
    ],
)
def test_what_does_not_authenticate_stays_as_it_is(history: list[Given]) -> None:
    given(*history).when(rekeying()).stays_silent()


def test_under_no_older_key_nor_the_same_is_it_digested_anew() -> None:
    given(created(), rekeyed(anew=NEWER)).when(rekeying(NEWER, ANEW)).stays_silent()
    given(created()).when(rekeying(FIRST, Digest(ANEW.value, 1))).stays_silent()


def test_of_two_secrets_that_are_called_alike_none_is_digested_anew() -> None:
    alike = Digest(FIRST.value[:4] + bytes(28), 1)
    given(created(), rotated(digest=alike)).when(rekeying()).stays_silent()


def test_nothing_else_changes() -> None:
    before, after = state_after(created()), state_after(created(), rekeyed(T1))
    assert (after.updated_at, after.uses, after.last_used_at) == (T0, 0, None)
    assert after.refusal(ANEW.value, at=T2) is None
    assert isinstance(after.refusal(FIRST.value, at=T2), TokenUnknown)
    assert [(row.good_until, row.is_void) for row in after.secret_rows()] == [
        (row.good_until, row.is_void) for row in before.secret_rows()
    ]


def test_the_end_of_its_overlap_stays() -> None:
    token = state_after(created(), rotated(T1, overlap=OVERLAP), rekeyed(T1))
    assert token.refusal(ANEW.value, at=T2 - MILLISECOND) is None
    assert isinstance(token.refusal(ANEW.value, at=T2), TokenExpired)
    assert token.refusal(SECOND.value, at=T2) is None


def test_an_overlap_that_begins_later_ends_it_as_any() -> None:
    token = state_after(created(), rekeyed(T1), rotated(T1, overlap=OVERLAP))
    assert isinstance(token.refusal(ANEW.value, at=T2), TokenExpired)
    assert token.secrets[0].id == NAME


def test_whatever_is_told_of_it_calls_it_as_before() -> None:
    token = state_after(created(), rekeyed(T1))
    (use,) = token.use(ANEW.value, presentation=IDP, count=1, first_at=T2, at=T2)
    (burn,) = token.burn(ANEW.value, at=T2)
    over = state_after(created(), rekeyed(T1), revoked(T2))
    (refusal,) = over.refuse(ANEW.value, presentation=IDP, at=T3)
    assert isinstance(use, Used)
    assert isinstance(burn, Revoked)
    assert isinstance(refusal, Refused)
    assert use.secret == burn.secret == refusal.secret == NAME


def test_a_decision_finds_a_secret_by_whichever_digest_is_held() -> None:
    candidates = [ANEW.value, FIRST.value]
    assert state_after(created()).held_as(candidates) == FIRST.value
    assert state_after(created(), rekeyed()).held_as(candidates) == ANEW.value
    assert state_after(created()).held_as([SECOND.value, ANEW.value]) == SECOND.value


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([created()], None),
        ([created(expires_at=T3)], T3),
        ([created(expires_at=T3), rekeyed()], T3),
        ([created(), rotated(T1, overlap=OVERLAP)], T1 + OVERLAP),
        ([created(), rotated(T3, overlap=timedelta(0))], T3),
    ],
)
def test_who_was_let_in_is_told_until_when_whatever_came_meanwhile(
    history: Sequence[Given], expected: datetime | None
) -> None:
    token = state_after(*history)
    assert token.good_until([ANEW.value, FIRST.value], at=T2) == expected
    assert token.good_until([UNKNOWN.value], at=T2) == T2

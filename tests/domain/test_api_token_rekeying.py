"""A secret of an API token is digested anew as that of a SCIM token is: once, while it is good."""

from datetime import datetime, timedelta

import pytest

from domain.api_token.events import ApiTokenEvent, Rekeyed, Rotated
from domain.api_token.rekeying import rekey
from domain.api_token.rotation import rotate
from domain.api_token.token import ApiToken
from domain.event import SecretRow
from domain.leaks.holder import Holder
from domain.secret import Digest, secret_id
from tests.domain.scenario import ADA, ANEW, FIRST, MILLISECOND, SECOND, T0, T1, T2, T3
from tests.domain.test_api_token import REVOKED, created, state_after

NEWER = Digest(bytes([31]) * 32, 3)
NAME = secret_id(FIRST.value)
HOUR = timedelta(hours=1)
Given = tuple[ApiTokenEvent, datetime]


def rekeying(token: ApiToken, digest: Digest = FIRST, anew: Digest = ANEW) -> list[Rekeyed]:
    return rekey(token, digest.value, anew=anew, at=T2)


def rekeyed(anew: Digest = ANEW) -> Given:
    return Rekeyed(secret=NAME, digest=anew), T1


def rotated(overlap: timedelta = HOUR, digest: Digest = SECOND) -> Given:
    event: ApiTokenEvent = Rotated(rotated_by=ADA, digest=digest, overlap_until=T1 + overlap)
    return event, T1


def test_a_good_secret_is_digested_anew_once() -> None:
    assert rekeying(state_after(created())) == [Rekeyed(secret=NAME, digest=ANEW)]
    assert not rekeying(state_after(created(), rekeyed()))
    assert not rekeying(state_after(created(), rekeyed()), ANEW)


def test_of_two_secrets_the_one_that_was_presented_is_digested_anew() -> None:
    token = state_after(created(), rotated())
    for digest in (FIRST, SECOND):
        asked = rekey(token, digest.value, anew=ANEW, at=T1 + MILLISECOND)
        assert asked == [Rekeyed(secret=secret_id(digest.value), digest=ANEW)]
    assert not rekey(token, NEWER.value, anew=ANEW, at=T1 + MILLISECOND), "of no secret of it"


def test_and_again_under_the_next_key_called_as_at_first() -> None:
    token = state_after(created(), rekeyed())
    assert rekeying(token, ANEW, NEWER) == [Rekeyed(secret=NAME, digest=NEWER)]
    assert state_after(created(), rekeyed(), rekeyed(NEWER)).held == [(NEWER, NAME)]


@pytest.mark.parametrize(
    "history",
    [
        [created(), REVOKED],
        [created(expires_at=T2)],
        [created(), rotated(overlap=timedelta(0))],
        [created(), rekeyed(NEWER)],
    ],
)
def test_what_does_not_authenticate_or_is_newer_stays_as_it_is(history: list[Given]) -> None:
    assert not rekeying(state_after(*history))
    assert not rekeying(state_after(*history), NEWER)


def test_of_two_secrets_that_are_called_alike_none_is_digested_anew() -> None:
    alike = Digest(FIRST.value[:4] + bytes(28), 1)
    token = state_after(created(), rotated(timedelta(days=1), alike))
    assert not rekeying(token)


def test_nothing_else_changes() -> None:
    before, after = state_after(created()), state_after(created(), rekeyed())
    assert (after.uses, after.last_used_at, after.rotated_at) == (0, None, None)
    assert after.is_good(at=T2, digests=[ANEW.value])
    assert not after.is_good(at=T2, digests=[FIRST.value])
    assert after.is_good(at=T2, digests=[ANEW.value, FIRST.value]), "as a call looked it up"
    assert after.secret_rows() == [
        SecretRow(ANEW.value, row.good_until, row.is_void) for row in before.secret_rows()
    ]


def test_the_end_of_its_overlap_stays_and_the_newer_secret_with_it() -> None:
    token = state_after(created(), rotated(), (Rekeyed(NAME, ANEW), T1))
    assert token.is_good(at=T2 - MILLISECOND, digests=[ANEW.value])
    assert not token.is_good(at=T2, digests=[ANEW.value])
    assert token.is_good(at=T2, digests=[SECOND.value])
    assert token.held == [(ANEW, NAME), (SECOND, secret_id(SECOND.value))]


def test_a_rotation_afterwards_takes_the_name_along_with_the_older_secret() -> None:
    token = state_after(created(), rekeyed(), rotated())
    assert token.held == [(ANEW, NAME), (SECOND, secret_id(SECOND.value))]
    assert rotate(token, digest=NEWER, overlap=timedelta(0), rotated_by=ADA, at=T3)


def test_a_leak_calls_it_as_at_first() -> None:
    token = state_after(created(), rekeyed())
    looked_up_before = Holder(token, (FIRST.value, ANEW.value, FIRST.value))
    assert looked_up_before.secret_id == NAME
    assert looked_up_before.state(at=T0 + MILLISECOND) == "live"

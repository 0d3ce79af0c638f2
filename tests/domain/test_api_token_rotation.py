"""The rotation of an API token: it records, it refuses; and which secrets are good then."""

from datetime import datetime, timedelta

import pytest

from domain.api_token.events import ApiTokenEvent, Refused, Rotated
from domain.api_token.rotation import DEFAULT_OVERLAP, rotate
from domain.api_token.token import ApiToken
from domain.errors import InvalidValue, NotFound, RotatedTooSoon, RotationUnderway, Unauthenticated
from domain.event import SecretRow
from domain.scim_token.rotation import OVERLAP_MAX, ROTATE_EVERY
from tests.domain.scenario import ADA, FIRST, MILLISECOND, SECOND, T0, T1, T2, T3, THIRD
from tests.domain.test_api_token import CALL, READ, REVOKED, created, state_after

HOUR = timedelta(hours=1)


def rotated(at: datetime = T1, *, overlap: timedelta = HOUR) -> tuple[ApiTokenEvent, datetime]:
    return Rotated(rotated_by=ADA, digest=SECOND, overlap_until=at + overlap), at


def asked(
    token: ApiToken, at: datetime, *, overlap: timedelta = HOUR, reason: str | None = None
) -> list[ApiTokenEvent]:
    return rotate(token, digest=THIRD, overlap=overlap, rotated_by=ADA, at=at, reason=reason)


def test_a_rotation_is_recorded_with_the_end_of_the_secret_before() -> None:
    assert asked(state_after(created()), T1, overlap=DEFAULT_OVERLAP, reason="lost") == [
        Rotated(ADA, THIRD, T1 + timedelta(days=1), "lost")
    ]


@pytest.mark.parametrize("overlap", [timedelta(0), OVERLAP_MAX])
def test_an_overlap_is_0_to_30_days(overlap: timedelta) -> None:
    assert asked(state_after(created()), T1, overlap=overlap)


@pytest.mark.parametrize("overlap", [-MILLISECOND, OVERLAP_MAX + MILLISECOND])
def test_any_other_overlap_is_refused(overlap: timedelta) -> None:
    with pytest.raises(InvalidValue) as caught:
        asked(state_after(created()), T1, overlap=overlap)
    assert caught.value.pointer == "/overlap_seconds"


def test_a_revoked_token_is_missing_and_an_expired_one_is_over() -> None:
    with pytest.raises(NotFound):
        asked(state_after(created(), REVOKED), T2)
    with pytest.raises(InvalidValue):
        asked(state_after(created(expires_at=T1)), T1)


def test_it_is_rotated_once_in_ten_seconds() -> None:
    token = state_after(created(), rotated(overlap=timedelta(0)))
    with pytest.raises(RotatedTooSoon) as caught:
        asked(token, T1 + MILLISECOND)
    assert caught.value.retry_after_s == 10
    assert asked(token, T1 + ROTATE_EVERY)


def test_two_secrets_are_good_at_most() -> None:
    token = state_after(created(), rotated())
    with pytest.raises(RotationUnderway):
        asked(token, T2 - MILLISECOND)
    assert asked(token, T2)
    assert asked(token, T2 - MILLISECOND, overlap=timedelta(0)), "then it is one"


def test_the_secret_before_is_good_until_the_overlap_is_over() -> None:
    token = state_after(created(), rotated())
    assert token.is_good(at=T2 - MILLISECOND, digests=[FIRST.value])
    assert not token.is_good(at=T2, digests=[FIRST.value])
    assert token.is_good(at=T2, digests=[SECOND.value])
    assert not token.is_good(at=T1, digests=[THIRD.value])
    with pytest.raises(Unauthenticated):
        token.authorise(READ, at=T2, digests=[FIRST.value])
    with pytest.raises(Unauthenticated):
        token.use(at=T2, digests=[FIRST.value])
    refused = token.refuse(lacking=None, presentation=CALL, at=T2, digests=[FIRST.value])
    assert refused == [Refused("expired", None, CALL)]


def test_how_the_secrets_stand_is_written_down() -> None:
    token = state_after(created(expires_at=T3), rotated())
    rows = [SecretRow(FIRST.value, T2, is_void=False), SecretRow(SECOND.value, T3, is_void=False)]
    assert token.secret_rows() == rows
    longer = state_after(created(expires_at=T2), rotated(overlap=5 * HOUR))
    assert longer.secret_rows()[0].good_until == T2, "no secret outlives its token"
    over = state_after(created(), rotated(), (REVOKED[0], T2))
    assert [row.is_void for row in over.secret_rows()] == [True, True]


def test_a_secret_that_has_ended_is_let_go_and_one_that_is_good_ends_with_the_next() -> None:
    again = Rotated(rotated_by=ADA, digest=THIRD, overlap_until=T3)
    let_go = state_after(created(), rotated(), (again, T2 + MILLISECOND))
    assert [row.digest for row in let_go.secret_rows()] == [SECOND.value, THIRD.value]
    at_once = Rotated(rotated_by=ADA, digest=THIRD, overlap_until=T1 + 2 * MILLISECOND)
    ended = state_after(created(), rotated(), (at_once, T1 + 2 * MILLISECOND))
    assert {row.good_until for row in ended.secret_rows()} == {None, T1 + 2 * MILLISECOND}
    assert ended.rotated_at is not None
    assert ended.rotated_at > T0

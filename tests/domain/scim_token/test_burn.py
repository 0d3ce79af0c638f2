"""Burning a `ScimToken`: revoked by whoever holds its secret (RFC 7009)."""

from datetime import timedelta

import pytest

from domain.scim_token.events import Revoked
from domain.secret import Digest, secret_id
from tests.domain.scenario import (
    FIRST,
    MINUTE,
    SECOND,
    T1,
    T2,
    T3,
    UNKNOWN,
    created,
    given,
    revoked,
    rotated,
)


def burned(digest: Digest) -> Revoked:
    return Revoked(revoked_by=None, reason=None, secret=secret_id(digest.value))


def test_the_holder_of_the_secret_ends_the_token() -> None:
    given(created()).when(lambda t: t.burn(FIRST.value, at=T1)).records(burned(FIRST))


def test_a_second_time_records_nothing() -> None:
    given(created(), revoked(T1)).when(lambda t: t.burn(FIRST.value, at=T2)).stays_silent()


def test_an_expired_token_has_ended_by_itself() -> None:
    given(created(expires_at=T1)).when(lambda t: t.burn(FIRST.value, at=T1)).stays_silent()


@pytest.mark.parametrize("digest", [FIRST, SECOND])
def test_in_an_overlap_either_secret_ends_the_token(digest: Digest) -> None:
    given(created(), rotated(T1)).when(lambda t: t.burn(digest.value, at=T1 + MINUTE)).records(
        burned(digest)
    )


def test_a_secret_that_was_rotated_away_ends_nothing() -> None:
    past = given(created(), rotated(T1, overlap=timedelta(hours=1)))
    past.when(lambda t: t.burn(FIRST.value, at=T2)).stays_silent()
    past.when(lambda t: t.burn(SECOND.value, at=T3)).records(burned(SECOND))


def test_a_secret_of_another_token_ends_nothing() -> None:
    given(created()).when(lambda t: t.burn(UNKNOWN.value, at=T1)).stays_silent()

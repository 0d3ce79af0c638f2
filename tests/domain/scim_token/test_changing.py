"""Change a name and an end: given / when / then."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from msgspec import UNSET, UnsetType

from domain.errors import InvalidValue, NotFound, TokenExpired
from domain.scim_token import warn
from domain.scim_token.changes import change
from domain.scim_token.events import Changed, ScimTokenEvent
from domain.scim_token.token import ScimToken
from domain.scim_token.values import EXPIRY_MAX
from domain.scim_token.warnings import Expiring
from tests.domain.scenario import (
    ADA,
    FIRST,
    MILLISECOND,
    SECOND,
    T1,
    T2,
    T3,
    T4,
    changed,
    created,
    given,
    revoked,
    rotated,
    state_after,
    suspended,
)

DAY = timedelta(days=1)


def changing(
    *,
    name: str | UnsetType = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
    reason: str | None = None,
    at: datetime = T2,
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: change(
        token, name=name, expires_at=expires_at, by=ADA, reason=reason, at=at
    )


def test_only_what_changed_is_recorded() -> None:
    past = given(created(expires_at=T3))
    past.when(changing(name="Entra", expires_at=T3, reason="moved")).records(
        Changed(ADA, name="Entra", reason="moved")
    )
    past.when(changing(name="Okta", expires_at=T4)).records(Changed(ADA, expires_at=T4))
    past.when(changing(name="Entra", expires_at=None)).records(
        Changed(ADA, name="Entra", expires_at=None)
    )


def test_what_is_so_already_stays_silent() -> None:
    given(created()).when(changing()).stays_silent()
    given(created()).when(changing(name="Okta", expires_at=None)).stays_silent()
    given(created(expires_at=T3)).when(changing(name="Okta", expires_at=T3)).stays_silent()


@pytest.mark.parametrize("ask", [changing(name="Entra"), changing(expires_at=None), changing()])
def test_a_change_never_brings_back_what_is_over(
    ask: Callable[[ScimToken], Sequence[ScimTokenEvent]],
) -> None:
    given(created(), revoked()).when(ask).refuses(NotFound)
    given(created(expires_at=T2)).when(ask).refuses(
        InvalidValue, pointer="", detail="the token has expired; create another"
    )


@pytest.mark.parametrize(
    ("ask", "pointer"),
    [
        (changing(name=""), "/name"),
        (changing(name="x" * 256), "/name"),
        (changing(reason=""), "/reason"),
        (changing(expires_at=T2), "/expires_at"),
        (changing(expires_at=T1), "/expires_at"),
        (changing(expires_at=EXPIRY_MAX), "/expires_at"),
    ],
)
def test_what_cannot_be_is_refused(
    ask: Callable[[ScimToken], Sequence[ScimTokenEvent]], pointer: str
) -> None:
    given(created()).when(ask).refuses(InvalidValue, pointer=pointer)


def test_a_suspended_token_can_be_changed() -> None:
    given(created(), suspended()).when(changing(name="Entra")).records(Changed(ADA, name="Entra"))


def test_every_secret_ends_with_the_new_end_but_none_later_than_its_overlap() -> None:
    token = state_after(
        created(expires_at=T2), rotated(T1, overlap=T3 - T1), changed(T1, expires_at=T4)
    )
    assert (token.expires_at, token.updated_at) == (T4, T1)
    assert token.refusal(FIRST.value, at=T3 - MILLISECOND) is None
    assert isinstance(token.refusal(FIRST.value, at=T3), TokenExpired)
    assert token.refusal(SECOND.value, at=T4 - MILLISECOND) is None
    assert isinstance(token.refusal(SECOND.value, at=T4), TokenExpired)
    shortened = state_after(created(expires_at=T4), changed(T1, expires_at=T2))
    assert isinstance(shortened.refusal(FIRST.value, at=T2), TokenExpired)
    endless = state_after(created(expires_at=T2), changed(T1, expires_at=None))
    assert endless.refusal(FIRST.value, at=T4) is None


def test_a_new_end_is_warned_of_anew_and_so_is_one_that_comes_back() -> None:
    end = T1 + 20 * DAY
    told = Expiring(days=30, expires_at=end), T1
    assert warn.of_end(state_after(created(expires_at=end), told), T2) == []
    other = state_after(created(expires_at=end), told, changed(T2, expires_at=end + DAY))
    assert warn.of_end(other, T2) == [Expiring(days=30, expires_at=end + DAY)]
    back = state_after(
        created(expires_at=end),
        told,
        changed(T2, expires_at=None),
        changed(T3, expires_at=end),
    )
    assert warn.of_end(back, T3) == [Expiring(days=30, expires_at=end)]
    renamed = state_after(created(expires_at=end), told, changed(T2, name="Entra"))
    assert warn.of_end(renamed, T2) == []

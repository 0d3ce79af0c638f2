"""Hand a token over by a link: given / when / then."""

import pickle
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from domain.errors import (
    InvalidValue,
    NotFound,
    RotatedTooSoon,
    RotationUnderway,
    SecretAlreadyShown,
    TokenRefused,
)
from domain.scim_token.events import Rotated, ScimTokenEvent, SetupLinkCreated, SetupLinkEnded
from domain.scim_token.handover.decide import offer, opened_by, reveal, withdraw
from domain.scim_token.rotation import DEFAULT_OVERLAP
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id
from domain.setup_link import LIFETIME, digest_of, mint_code, read_code
from tests.domain.scenario import (
    ADA,
    FIRST,
    HOLDER,
    LINK,
    MILLISECOND,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    THIRD,
    Given,
    completed,
    created,
    finished,
    given,
    linked,
    resumed,
    revealed,
    revoked,
    rotated,
    state_after,
    suspended,
    unlinked,
    used,
)

Decide = Callable[[ScimToken], Sequence[ScimTokenEvent]]
OTHER_LINK = bytes([32]) * 32
SOON = T0 + timedelta(hours=3)


def offering(at: datetime = T2, reason: str | None = None) -> Decide:
    return lambda token: offer(token, digest=Digest(LINK, 1), created_by=ADA, at=at, reason=reason)


def withdrawing(at: datetime = T2, reason: str | None = None) -> Decide:
    return lambda token: withdraw(token, ended_by=ADA, at=at, reason=reason)


def revealing(at: datetime = T2, link: bytes = LINK) -> Decide:
    return lambda token: reveal(token, [link], digest=SECOND, holder=HOLDER, at=at)


def test_a_link_is_good_for_a_day_and_no_longer_than_its_token() -> None:
    made = SetupLinkCreated(ADA, LINK, T2 + LIFETIME, "for their IT")
    given(created()).when(offering(reason="for their IT")).records(made)
    given(created(expires_at=SOON)).when(offering()).records(SetupLinkCreated(ADA, LINK, SOON))
    assert timedelta(hours=24) == LIFETIME


def test_only_what_can_be_used_is_handed_over() -> None:
    given(created(), revoked()).when(offering()).refuses(NotFound)
    given(created(), suspended()).when(offering()).refuses(InvalidValue, pointer="")
    given(created(expires_at=T2)).when(offering(T2)).refuses(InvalidValue, pointer="")
    given(created()).when(offering(reason="x" * 201)).refuses(InvalidValue, pointer="/reason")


def test_no_link_is_made_while_two_secrets_are_good() -> None:
    hour = timedelta(hours=1)
    given(created(), rotated(T1, overlap=2 * hour)).when(offering()).refuses(RotationUnderway)
    made = SetupLinkCreated(ADA, LINK, T2 + LIFETIME)
    given(created(), rotated(T1, overlap=hour)).when(offering(T2)).records(made)
    given(created(), rotated(T0), completed(T1)).when(offering(T2)).records(made)


def test_a_new_link_ends_the_one_before() -> None:
    token = state_after(created(), linked(T1), linked(T2, digest=OTHER_LINK))
    assert opened_by(token, [LINK], at=T2) is None
    assert opened_by(token, [OTHER_LINK], at=T2) is not None


@pytest.mark.parametrize("ends_at", [None, T3 + timedelta(hours=3)])
def test_a_link_that_was_made_since_one_looked_is_left_alone(ends_at: datetime | None) -> None:
    """Of a token that ends within a day it is not known when the link was made: it is ended."""

    def withdraw_as_seen(token: ScimToken) -> Sequence[ScimTokenEvent]:
        return withdraw(token, ended_by=ADA, at=T3, looked_at=T2 - MILLISECOND)

    def offer_as_seen(token: ScimToken) -> Sequence[ScimTokenEvent]:
        digest = Digest(OTHER_LINK, 1)
        return offer(token, digest=digest, created_by=ADA, at=T3, looked_at=T2 - MILLISECOND)

    since = given(created(expires_at=ends_at), linked(T2, ends_at=ends_at))
    before = given(created(expires_at=ends_at), linked(T1, ends_at=ends_at))
    ended = SetupLinkEnded(ADA, secret_id(LINK), None)
    made = SetupLinkCreated(ADA, OTHER_LINK, ends_at or T3 + LIFETIME)
    before.when(withdraw_as_seen).records(ended)
    before.when(offer_as_seen).records(made)
    if ends_at is None:
        since.when(withdraw_as_seen).refuses(InvalidValue, pointer="")
        since.when(offer_as_seen).refuses(InvalidValue, pointer="")
    else:
        since.when(withdraw_as_seen).records(ended)
        since.when(offer_as_seen).records(made)


def test_a_link_is_ended_once() -> None:
    given(created(), linked()).when(withdrawing(reason="wrong person")).records(
        SetupLinkEnded(ADA, secret_id(LINK), "wrong person")
    )
    given(created()).when(withdrawing()).stays_silent()
    given(created(), linked(), unlinked()).when(withdrawing()).stays_silent()
    given(created(), linked(T0)).when(withdrawing(T0 + LIFETIME)).stays_silent()
    given(created(), linked(), revoked()).when(withdrawing()).refuses(NotFound)
    given(created(), linked()).when(withdrawing(reason="")).refuses(InvalidValue)


@pytest.mark.parametrize(
    "end", [(unlinked(),), (revoked(T2),), (suspended(T2),), (suspended(T2), resumed(T2))]
)
def test_a_link_that_was_ended_or_whose_token_was_opens_nothing(end: Sequence[Given]) -> None:
    token = state_after(created(), linked(), *end)
    assert opened_by(token, [LINK], at=T2) is None
    with pytest.raises(NotFound):
        revealing(T3)(token)


def test_unknown_ended_and_foreign_are_one_refusal() -> None:
    for past, at, link in (
        ((created(),), T2, LINK),
        ((created(), linked()), T2, OTHER_LINK),
        ((created(), linked(T1)), T1 + LIFETIME, LINK),
        ((created(expires_at=T3), linked(T1)), T3, LINK),
        ((created(), linked(), unlinked()), T3, LINK),
    ):
        given(*past).when(revealing(at, link)).refuses(NotFound)
    with pytest.raises(NotFound):
        reveal(None, [LINK], digest=SECOND, holder=HOLDER, at=T2)


def test_a_link_opens_until_the_last_millisecond() -> None:
    token = state_after(created(), linked(T1))
    assert opened_by(token, [LINK], at=T1 + LIFETIME - MILLISECOND) == token.setup_link


def test_a_secret_that_nobody_used_ends_when_the_new_one_is_shown() -> None:
    """Whoever made the token saw it."""
    given(created(), linked()).when(revealing()).records(
        Rotated(HOLDER, SECOND, T2, setup_link=secret_id(LINK))
    )
    token = state_after(created(), linked(), revealed(T2))
    assert isinstance(token.refusal(FIRST.value, at=T2), TokenRefused)
    assert token.refusal(SECOND.value, at=T2) is None


def test_a_secret_that_is_in_use_goes_on_as_in_any_rotation() -> None:
    given(created(), used(), linked()).when(revealing()).records(
        Rotated(HOLDER, SECOND, T2 + DEFAULT_OVERLAP, setup_link=secret_id(LINK))
    )


def test_that_an_overlap_had_ended_is_told_before_a_link_shows_a_secret() -> None:
    past = created(), used(), rotated(T1, digest=THIRD, overlap=T2 - T1), linked(T2)
    given(*past).when(revealing(T3)).records(
        finished(cause="over")[0],
        Rotated(HOLDER, SECOND, T3 + DEFAULT_OVERLAP, setup_link=secret_id(LINK)),
    )


def test_a_link_shows_one_secret_and_goes_on_to_open() -> None:
    token = state_after(created(), linked(), revealed(T2))
    link = opened_by(token, [LINK], at=T3)
    assert link is not None
    assert (link.revealed_at, link.secret) == (T2, secret_id(SECOND.value))
    given(created(), linked(), revealed(T2)).when(revealing(T3)).refuses(SecretAlreadyShown)


def test_what_keeps_a_token_from_being_rotated_leaves_the_link_as_it_is() -> None:
    past = (created(), used(), linked(), rotated(T1, digest=THIRD))
    given(*past).when(revealing(T2)).refuses(RotationUnderway)
    given(*past).when(revealing(T1)).refuses(RotatedTooSoon)
    assert opened_by(state_after(*past), [LINK], at=T2) is not None


def test_a_rotation_by_others_spends_no_link() -> None:
    token = state_after(created(), linked(T1), rotated(T1), completed(T2))
    assert token.setup_link is not None
    assert token.setup_link.revealed_at is None


def test_a_code_is_256_bits_and_no_print_shows_it() -> None:
    code = mint_code(bytes(range(1, 33)))
    assert len(code.reveal()) == 43
    assert code.reveal() != mint_code(bytes(32)).reveal()
    for printed in (repr(code), str(code), f"{code}", f"{code!r:>50}"):
        assert code.reveal() not in printed
    with pytest.raises(TypeError):
        pickle.dumps(code)


def test_a_digest_is_keyed_and_of_the_code_alone() -> None:
    code = mint_code(bytes(range(1, 33)))
    same = read_code(code.reveal())
    assert same is not None
    assert digest_of(code, b"k" * 32) == digest_of(same, b"k" * 32)
    assert digest_of(code, b"k" * 32) != digest_of(code, b"j" * 32)


@pytest.mark.parametrize("text", ["", "x" * 42, "x" * 44, "x" * 42 + "\n", "x" * 42 + "é", "../x"])
def test_what_cannot_be_a_code_is_none(text: str) -> None:
    assert read_code(text) is None

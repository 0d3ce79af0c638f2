"""From which networks a token is good: what may be set, who is let in, and what is told."""

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.errors import (
    InvalidValue,
    NetworkNotAllowed,
    NotFound,
    TokenExpired,
    TokenRevoked,
    TokenSuspended,
    TokenUnknown,
)
from domain.event import SecretRow
from domain.networks.plain import (
    Address,
    is_within,
    plain_address,
    plain_network,
)
from domain.scim_token.events import NetworksSet, Refused, Used
from domain.scim_token.networks.decide import NETWORKS_MAX, allow, allow_any, kept_networks
from domain.scim_token.token import ScimToken
from tests.domain.scenario import (
    ADA,
    ANEW,
    FIRST,
    IDP,
    SECOND,
    T2,
    T3,
    created,
    given,
    rekeyed,
    restricted,
    revoked,
    rotated,
    state_after,
    suspended,
)

OFFICE: Final = "192.0.2.0/24"
CLOUD: Final = "2001:db8::/32"
INSIDE, OUTSIDE = replace(IDP, source="192.0.2.7"), replace(IDP, source="198.51.100.7")
UNKNOWN: Final = replace(IDP, source=None)


def allowing(
    *networks: str, reason: str | None = None, meant: Sequence[str] | None = None
) -> Callable[[ScimToken], list[NetworksSet]]:
    return lambda token: allow(token, networks, by=ADA, reason=reason, meant=meant)


def allowing_any(*, meant: Sequence[str] | None = None) -> Callable[[ScimToken], list[NetworksSet]]:
    return lambda token: allow_any(token, by=ADA, reason=None, meant=meant)


class TestDeciding:
    def test_the_networks_replace_those_before(self) -> None:
        given(created()).when(allowing(OFFICE, reason="their office")).records(
            NetworksSet(ADA, (OFFICE,), "their office")
        )
        given(created(), restricted(OFFICE)).when(allowing(CLOUD)).records(
            NetworksSet(ADA, (CLOUD,))
        )

    def test_what_is_so_already_records_nothing(self) -> None:
        given(created(), restricted(OFFICE, CLOUD)).when(allowing(OFFICE, CLOUD)).records()
        given(created()).when(allowing_any()).records()

    def test_any_network_is_said_by_itself(self) -> None:
        given(created(), restricted(OFFICE)).when(allowing_any()).records(NetworksSet(ADA, ()))
        with pytest.raises(InvalidValue, match="name one at least"):
            allowing()(state_after(created()))

    def test_a_revoked_token_is_not_there_and_a_suspended_one_is(self) -> None:
        for change in (allowing(OFFICE), allowing_any()):
            with pytest.raises(NotFound):
                change(state_after(created(), restricted(CLOUD), revoked()))
        given(created(), suspended()).when(allowing(OFFICE)).records(NetworksSet(ADA, (OFFICE,)))

    def test_who_has_seen_other_networks_sets_none(self) -> None:
        token = state_after(created(), restricted(OFFICE))
        for change in (allowing(CLOUD, meant=()), allowing_any(meant=[CLOUD])):
            with pytest.raises(InvalidValue, match="another set of networks"):
                change(token)
        assert allowing(CLOUD, meant=[OFFICE])(token) == [NetworksSet(ADA, (CLOUD,))]
        assert allowing(OFFICE, meant=())(token) == [], "sent again"

    @pytest.mark.parametrize("reason", ["", " ", "x" * 201])
    def test_a_reason_is_as_everywhere(self, reason: str) -> None:
        with pytest.raises(InvalidValue, match="/reason"):
            allowing(OFFICE, reason=reason)(state_after(created()))


class TestKept:
    @pytest.mark.parametrize(
        ("asked", "kept"),
        [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8:0::1", "2001:db8::1/128"),
            ("192.0.2.0/255.255.255.0", OFFICE),
            ("::ffff:192.0.2.0/120", OFFICE),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ],
    )
    def test_one_spelling_for_each(self, asked: str, kept: str) -> None:
        assert kept_networks([asked, asked]) == (kept,)

    @pytest.mark.parametrize(
        "asked", ["", "example.com", "192.0.2.0/33", "192.0.2", "10.0.0.0/8,", " 10.0.0.0/8", "*"]
    )
    def test_what_is_no_network_is_told_by_its_place(self, asked: str) -> None:
        with pytest.raises(InvalidValue, match="such as 192") as caught:
            kept_networks([OFFICE, asked])
        assert caught.value.pointer == "/networks/1"

    @pytest.mark.parametrize("asked", ["192.0.2.7/24", "2001:db8::1/32", "::ffff:192.0.2.1/120"])
    def test_bits_beyond_the_length_are_asked_about(self, asked: str) -> None:
        with pytest.raises(InvalidValue, match="the network would be") as caught:
            kept_networks([asked])
        assert str(plain_network(asked)) in caught.value.detail

    def test_there_are_two_hundred_at_most(self) -> None:
        many = [f"10.0.{number}.0/24" for number in range(NETWORKS_MAX)]
        assert len(kept_networks([*many, *many])) == NETWORKS_MAX
        with pytest.raises(InvalidValue, match="200 at most"):
            kept_networks([*many, CLOUD])


class TestUsing:
    def test_from_within_it_is_a_use_and_from_elsewhere_it_is_refused(self) -> None:
        token = state_after(created(), restricted(OFFICE, CLOUD))
        for source in ("192.0.2.7", "192.0.2.255", "2001:db8:1::2"):
            (use,) = token.use(
                FIRST.value, presentation=replace(IDP, source=source), count=1, first_at=T2, at=T2
            )
            assert isinstance(use, Used)
        for elsewhere in (OUTSIDE, UNKNOWN, replace(IDP, source="2001:db9::1")):
            with pytest.raises(NetworkNotAllowed):
                token.use(FIRST.value, presentation=elsewhere, count=1, first_at=T2, at=T2)
            (refusal,) = token.refuse(FIRST.value, presentation=elsewhere, at=T2)
            assert isinstance(refusal, Refused)
            assert (refusal.reason, refusal.presentation) == ("network", elsewhere)
        assert token.refuse(FIRST.value, presentation=INSIDE, at=T2) == []

    def test_without_a_restriction_an_unknown_address_is_let_in(self) -> None:
        for past in ([created()], [created(), restricted(OFFICE), restricted(at=T2)]):
            assert state_after(*past).refusal_of(FIRST.value, UNKNOWN, at=T3) is None

    def test_it_holds_for_the_secrets_of_later_rotations(self) -> None:
        token = state_after(created(), restricted(OFFICE), rotated(T2, overlap=T3 - T2))
        assert token.secret_rows() == [
            SecretRow(FIRST.value, T3, is_void=False, networks=(OFFICE,)),
            SecretRow(SECOND.value, None, is_void=False, networks=(OFFICE,)),
        ]
        for digest in (FIRST, SECOND):
            assert isinstance(token.refusal_of(digest.value, OUTSIDE, at=T2), NetworkNotAllowed)

    def test_it_holds_for_a_secret_that_was_digested_anew(self) -> None:
        token = state_after(created(), restricted(OFFICE), rekeyed(T2))
        assert token.secret_rows() == [
            SecretRow(ANEW.value, None, is_void=False, networks=(OFFICE,))
        ]
        assert isinstance(token.refusal_of(ANEW.value, OUTSIDE, at=T2), NetworkNotAllowed)

    def test_what_is_refused_anyway_is_told_first(self) -> None:
        narrowed = [created(expires_at=T3), restricted(OFFICE)]
        for more, at, refusal in (
            ([revoked(T2)], T2, TokenRevoked),
            ([suspended(T2)], T2, TokenSuspended),
            ([], T3, TokenExpired),
        ):
            found = state_after(*narrowed, *more).refusal_of(FIRST.value, OUTSIDE, at=at)
            assert isinstance(found, refusal)
        found = state_after(*narrowed).refusal_of(SECOND.value, OUTSIDE, at=T2)
        assert isinstance(found, TokenUnknown)

    def test_whoever_holds_a_secret_may_burn_it_from_anywhere(self) -> None:
        token = state_after(created(), restricted(OFFICE))
        assert token.burn(FIRST.value, presentation=OUTSIDE, at=T2)


networks = st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda length: str(ip_network(f"{address}/{length}", strict=False))
    )
)


@any_of(st.ip_addresses(), st.lists(networks, max_size=4))
def test_an_address_is_within_where_one_of_the_networks_has_it(
    address: Address, within: list[str]
) -> None:
    source = str(plain_address(str(address)))
    kept = kept_networks(within) if within else ()
    assert is_within(source, kept) == any(
        ip_address(source) in ip_network(network) for network in kept
    )

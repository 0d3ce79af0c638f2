"""PostgreSQL finds an address in a network where the rule does, whatever else stands in a use."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.eventstore import append
from domain.eventstore.event_registry import REGISTRY
from domain.kept_text import kept
from domain.networks.plain import Address, Network, is_within, plain_address
from domain.scim_token.events import Presentation, Used
from domain.scim_token.networks.decide import kept_networks
from tests.conftest import new_database
from tests.domain.scenario import T0

ODD: Final = (
    *('"', "\\", '\\"', "}", "]", "{", "\\u0022", "\\u0000", "\x00", "\ud83d", "\u2028", "👩🏽‍💻"),
    *("'", "%", "networks", "presentation", "source", "/", "::/0", "é"),
    *('","source":"192.0.2.7"', '"presentation":{"source":"192.0.2.7"}', '"networks":["::/0"]'),
)
TEXTS: Final = st.none() | st.lists(st.sampled_from(ODD) | st.text(max_size=5), max_size=5).map(
    lambda parts: kept("".join(parts), max_length=200)
)
"""As they come out of the doors."""

ADDRESSES: Final[st.SearchStrategy[Address]] = st.integers(0, 2**32 - 1).map(IPv4Address) | (
    st.integers(0, 2**128 - 1).map(IPv6Address)
)


class Case(NamedTuple):
    """A use, and the networks that are allowed, as they are kept."""

    presentation: Presentation
    networks: Sequence[str]

    @property
    def state(self) -> bytes:
        return REGISTRY.encode(Used(1, T0, self.presentation, "00010203"))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """The ends of what there is as often as what lies between."""
    address = draw(ADDRESSES)
    most = address.max_prefixlen
    length = draw(st.sampled_from([0, 1, most - 1, most]) | st.integers(0, most))
    return ip_network(f"{address}/{length}", strict=False)


def spelled(address: Address, how: str) -> str | None:
    """As a door tells it that was told it in one of several ways."""
    text = f"::ffff:{address}" if how == "mapped" and address.version == 4 else str(address)
    plain = plain_address(f"{text}%eth0" if how == "zone" and ":" in text else text)
    return None if plain is None else str(plain)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """The address is anywhere, within one of the networks, or right beside it."""
    allowed = draw(st.lists(networks(), min_size=1, max_size=4))
    near = draw(st.sampled_from(allowed))
    first, last, most = int(near[0]), int(near[-1]), 2**near.max_prefixlen - 1
    beside = st.sampled_from([max(0, first - 1), min(most, last + 1)])
    numbers = st.integers(first, last) | beside
    its: st.SearchStrategy[Address] = (
        numbers.map(IPv4Address) if near.version == 4 else numbers.map(IPv6Address)
    )
    address = draw(its | ADDRESSES)
    how = draw(st.sampled_from(["plain", "mapped", "zone", "unknown"]))
    return Case(
        Presentation(
            door="scim",
            source=None if how == "unknown" else spelled(address, how),
            user_agent=draw(TEXTS),
            path_class=draw(TEXTS),
            note=draw(TEXTS),
        ),
        kept_networks([str(network) for network in allowed]),
    )


def seen(network: str, source: str | None, *, user_agent: str | None = None) -> Case:
    return Case(
        Presentation("scim", source=source, user_agent=user_agent), kept_networks([network])
    )


ENDS: Final = [
    seen("0.0.0.0/0", "255.255.255.255"),
    seen("0.0.0.0/0", "::"),
    seen("::/0", "0.0.0.0"),
    seen("::/0", "ffff::"),
    seen("192.0.2.7", "192.0.2.7"),
    seen("192.0.2.7", "192.0.2.8"),
    seen("2001:db8::1", "2001:db8::1"),
    seen("::ffff:192.0.2.0/120", spelled(IPv4Address("192.0.2.7"), "mapped")),
    seen("::fffe:0:0/95", "192.0.2.7"),
    seen("::/96", "::102:304"),
    seen("192.0.2.0/24", None, user_agent='x","source":"192.0.2.7'),
    seen("192.0.2.0/24", "203.0.113.7", user_agent='"presentation":{"source":"192.0.2.7"}'),
]


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


def check(owner: psycopg.Connection[Any], asked: Sequence[Case]) -> None:
    found = owner.execute(
        "SELECT ledger.is_from(state, networks::inet[])"
        " FROM unnest(%s::bytea[], %s::text[]) WITH ORDINALITY AS a (state, networks, ord)"
        " ORDER BY ord",
        [
            [case.state for case in asked],
            [append._array_literal(tuple(case.networks)) for case in asked],
        ],
    ).fetchall()
    for case, (is_from,) in zip(asked, found, strict=True):
        assert is_from == is_within(case.presentation.source, case.networks), case


@settings(max_examples=15)
@example(asked=ENDS)
@given(asked=st.lists(cases(), min_size=5, max_size=10))
def test_the_statement_and_the_rule_find_the_same_addresses(
    owner: psycopg.Connection[Any], asked: list[Case]
) -> None:
    check(owner, asked)


@pytest.mark.long
@settings(max_examples=300)
@given(asked=st.lists(cases(), min_size=5, max_size=10))
def test_the_statement_and_the_rule_find_the_same_of_many_addresses(
    owner: psycopg.Connection[Any], asked: list[Case]
) -> None:
    check(owner, asked)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("<<=", "<<"), ("<<=", "="), (", false)", ", true)"), ("'source'", "'note'")],
)
def test_a_comparison_that_differs_is_found(
    owner: psycopg.Connection[Any], right: str, wrong: str
) -> None:
    ((definition,),) = owner.execute(
        "SELECT pg_get_functiondef('ledger.is_from'::regproc)"
    ).fetchall()
    assert definition.count(right) == 1
    with owner.transaction(force_rollback=True):
        owner.execute(definition.replace(right, wrong))
        with pytest.raises(AssertionError):
            check(owner, ENDS)

"""Of any event nothing of what is forgotten is left, and all else is as it was."""

from ipaddress import ip_address
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.inspect import StructType, UnionType, type_info

from domain.event import Event
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.forgetting.events import (
    HOLD_ADDRESSES,
    NOBODYS,
    Forgotten,
    Pseudonyms,
    without,
)
from domain.networks.plain import Address, plain_network
from tests.projections.audit_trail.test_every_field import EVENTS, in_each_way

ALL: Final = Forgotten([plain_network("192.0.2.0/24")], ["curl", "Okta"])
"""What the events of `in_each_way` tell."""
OF_WORDS: Final = {"scim_token.leaked.v1"}
"""Of which `source` is whoever found the leak."""


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.topic)
def test_nothing_of_it_is_left_and_all_else_stays(event: type[Event]) -> None:
    for fields in in_each_way(event):
        told = event(**fields)
        named = Pseudonyms()
        rest = without(told, what=ALL, named=named)
        words = msgspec.json.decode(REGISTRY.encode(told))
        expected = _mapped(words, named) if event.topic not in OF_WORDS else words
        if event.topic in OF_WORDS:
            expected["reported_by"] = _mapped(words.get("reported_by"), named)
            expected = {name: value for name, value in expected.items() if value is not None}
        assert msgspec.json.decode(REGISTRY.encode(rest)) == expected
        assert (rest is told) == (rest == told)


def _mapped(words: Any, named: Pseudonyms) -> Any:
    """By what it is called in JSON, whatever holds it."""
    if not isinstance(words, dict):
        return words
    return {
        name: named.of(value) if name == "source" and value else _mapped(value, named)
        for name, value in words.items()
        if name != "user_agent"
    }


def test_whatever_has_a_source_holds_an_address_but_a_leak() -> None:
    found: dict[str, type] = {}

    def walk(kind: Any) -> None:
        if isinstance(kind, UnionType):
            for one in kind.types:
                walk(one)
        if isinstance(kind, StructType):
            for field in kind.fields:
                found.update({kind.cls.__name__: kind.cls} if field.name == "source" else {})
                walk(field.type)

    for event in EVENTS:
        walk(type_info(event))
    assert {*found.values()} == {*HOLD_ADDRESSES, found["Leaked"]}


@pytest.mark.parametrize("what", [Forgotten([], ["wget"]), Forgotten([plain_network("::/0")], [])])
def test_others_are_not_touched(what: Forgotten) -> None:
    for event in EVENTS:
        for fields in in_each_way(event):
            told = event(**fields)
            assert without(told, what=what, named=Pseudonyms()) is told


SPELLINGS: Final = st.sampled_from(
    (
        *("192.0.2.1", "::ffff:192.0.2.1", "::FFFF:192.0.2.1", "2001:db8::1", "2001:DB8::1"),
        *("fe80::1", "fe80::1%eth0", "fe80::1%eth1", "0.0.0.0", "::"),
    )
)


def as_views_read(source: str) -> Address:
    return ip_address(source.partition("%")[0])


@given(st.lists(SPELLINGS))
@example(["fe80::1", "fe80::1%eth0", "fe80::1%eth1"])
def test_the_same_is_called_the_same_and_another_otherwise(sources: list[str]) -> None:
    named = Pseudonyms()
    called = {source: named.of(source) for source in sources}
    assert len({*called.values()}) == len(called)
    assert {source: named.of(source) for source in sources} == called
    pairs = {(as_views_read(source), as_views_read(name)) for source, name in called.items()}
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    assert all(name in NOBODYS for _, name in pairs)
    assert len(named) == len(pairs)


def test_two_runs_do_not_call_it_the_same() -> None:
    assert Pseudonyms().of("192.0.2.1") != Pseudonyms().of("192.0.2.1")


@pytest.mark.parametrize(
    ("network", "source", "is_forgotten"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "192.0.2.7", True),
        ("fe80::/64", "fe80::1%eth0", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "unix:", False),
        ("0.0.0.0/0", None, False),
    ],
)
def test_which_addresses_a_network_has(network: str, source: Any, is_forgotten: bool) -> None:
    what = Forgotten([plain_network(network, is_strict=True)], [])
    assert what.has_address(source) == is_forgotten

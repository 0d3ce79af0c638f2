"""Whose address a request comes from: the peer,
unless proxies that the settings name say otherwise.
"""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar.types import HTTPScope

from api.doors.client_address import (
    MAX_HOPS,
    ClientAddresses,
    Origin,
    is_host,
)
from api.server.ambiguous_fields import check_fields
from api.server.error_response import Refusal
from domain.networks.plain import plain_address, plain_network

PROXY, OTHER_PROXY, CLIENT, PEER = "10.0.0.1", "10.0.0.2", "203.0.113.7", "198.51.100.9"
TRUSTING = ClientAddresses([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
TRUSTING_NOBODY = ClientAddresses()


def scope(peer: str | None, *forwarded_for: str, **headers: str) -> HTTPScope:
    given = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded_for]
    given += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    found: dict[str, Any] = {
        "client": None if peer is None else (peer, 1234),
        "scheme": "http",
        "headers": given,
    }
    return cast("HTTPScope", found)


class TestWithoutTrustedProxies:
    def test_it_is_the_peer_whatever_is_said(self) -> None:
        assert TRUSTING_NOBODY.address(scope(PEER, CLIENT)) == PEER

    def test_behind_a_gateway_it_is_not_known(self) -> None:
        assert TRUSTING_NOBODY.address(scope(PEER, CLIENT), is_relayed=True) is None

    def test_a_peer_without_an_address_has_none(self) -> None:
        assert TRUSTING_NOBODY.address(scope(None)) is None

    @pytest.mark.parametrize(
        ("peer", "address"),
        [
            ("fe80::1%eth0", "fe80::1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            (f"::ffff:{PEER}", PEER),  # a socket that listens on IPv6 and IPv4 tells IPv4 peers so
        ],
    )
    def test_a_peer_has_one_spelling_and_no_zone(self, peer: str, address: str) -> None:
        assert TRUSTING_NOBODY.address(scope(peer)) == address


class TestBehindTrustedProxies:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            (PEER, (), PEER),
            (PEER, (CLIENT,), PEER),  # it is no proxy of ours: what it says is its own invention
            (PROXY, (CLIENT,), CLIENT),
            (PROXY, (f"1.1.1.1, {CLIENT}",), CLIENT),
            (PROXY, ("1.1.1.1", CLIENT), CLIENT),
            (PROXY, (f"{CLIENT}, {OTHER_PROXY}",), CLIENT),
            (PROXY, (f"{OTHER_PROXY}, {PROXY}",), OTHER_PROXY),
            (PROXY, (), PROXY),
            (PROXY, ("",), PROXY),
            (PROXY, ("unknown",), None),
            (PROXY, (f"{CLIENT}, unknown",), None),
            (PROXY, (f"{CLIENT}, \xe9",), None),
            (PROXY, (f"{CLIENT}:4711",), CLIENT),
            (PROXY, ("[2001:db8::1]:4711",), "2001:db8::1"),
            (PROXY, ("2001:DB8:0:0::1",), "2001:db8::1"),
            (f"::ffff:{PROXY}", (f"::ffff:{CLIENT}",), CLIENT),
            ("fd00::1", (CLIENT,), CLIENT),
            (PROXY, (", ".join([CLIENT] + [OTHER_PROXY] * 100),), OTHER_PROXY),
            (None, (CLIENT,), None),
            (PROXY, (f"{CLIENT},",), CLIENT),
            (PROXY, (f"{CLIENT},, {OTHER_PROXY}",), CLIENT),
            (PROXY, (f"{CLIENT} , ,\t{OTHER_PROXY} ,",), CLIENT),
            (PROXY, (CLIENT, "", f" {OTHER_PROXY}\t,", ""), CLIENT),
            (PROXY, (CLIENT, OTHER_PROXY), CLIENT),
            (PROXY, (",,,",), PROXY),
            (PROXY, (" ", "\t"), PROXY),
            (PROXY, (f'"{CLIENT}"',), CLIENT),
            (PROXY, ('"[2001:db8::1]:4711"',), "2001:db8::1"),
            (PROXY, ("[2001:db8::1]",), "2001:db8::1"),
            (PROXY, ("fe80::1%eth0",), "fe80::1"),
            (PROXY, ("[fe80::1%25eth0]:80",), "fe80::1"),
            (PROXY, (f"1.1.1.1, unknown, {OTHER_PROXY}",), None),
            (PROXY, (f"unknown, {CLIENT}",), CLIENT),
            (PROXY, (f"{CLIENT} {OTHER_PROXY}",), None),
            (PROXY, (f"{CLIENT}{',' * 5000}",), CLIENT),
        ],
    )
    def test_it_is_the_rightmost_address_that_is_not_theirs(
        self, peer: str | None, forwarded: tuple[str, ...], address: str | None
    ) -> None:
        assert TRUSTING.address(scope(peer, *forwarded)) == address

    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [(PROXY, (CLIENT,), CLIENT), (PROXY, (), None), (PEER, (), None), (PEER, (CLIENT,), None)],
    )
    def test_a_gateways_own_address_is_never_taken_for_its_clients(
        self, peer: str, forwarded: tuple[str, ...], address: str | None
    ) -> None:
        assert TRUSTING.address(scope(peer, *forwarded), is_relayed=True) == address

    @pytest.mark.parametrize("is_relayed", [True, False])
    def test_a_flood_of_lists_does_not_fill_the_memory(self, is_relayed: bool) -> None:
        sources = ClientAddresses([ip_network("10.0.0.0/8")])
        for number in range(100):
            told = scope(PROXY, f"1.1.1.{number}{', 1.1.1.1' * 200}, {CLIENT}")
            assert sources.address(told, is_relayed=is_relayed) == CLIENT
        assert sources._address.cache_info().currsize == 0

    def test_the_forwarded_header_of_rfc_7239_is_never_read(self) -> None:
        assert TRUSTING.address(scope(PROXY, forwarded=f"for={CLIENT}")) == PROXY


class Hop(NamedTuple):
    """One element of a list as a proxy writes it.

    address: None where it says nothing that we can read.
    """

    address: str | None
    text: str


OURS: Final = ["10.0.0.2", "10.255.255.255", "fd00::2", "fdff::ffff"]
THEIRS: Final = ["203.0.113.7", "9.255.255.255", "11.0.0.0", "2001:db8::1", "fc00::1", "fe80::1"]
FORMS: Final = {
    4: ["{}", "{}:1", '"{}"', '"{}:65535"', "::ffff:{}"],
    6: ["{}", "[{}]", "[{}]:1", '"[{}]:9"', "{}%x"],
}
WRONG: Final = [
    "unknown",
    "_hidden",
    "10.0.0.256",
    "203.0.113.7 10.0.0.2",
    "for=203.0.113.7",
    "\xe9",
    "%",
    ":",
]


@st.composite
def hops(draw: st.DrawFn) -> Hop:
    address = draw(st.sampled_from(OURS + THEIRS))
    return Hop(address, draw(st.sampled_from(FORMS[ip_address(address).version])).format(address))


blanks = st.text(" \t", max_size=2)
lists = st.lists(
    hops() | st.sampled_from(WRONG).map(lambda text: Hop(None, text)), max_size=MAX_HOPS
)


@st.composite
def lines(draw: st.DrawFn, said: Sequence[Hop]) -> list[str]:
    """The elements as header lines: blanks around each, empty ones between them,
    a new line anywhere.
    """
    written = [[""]]
    for hop in said:
        for _ in range(draw(st.integers(0, 2))):
            written[-1].append(draw(blanks))
        if draw(st.booleans()):
            written.append([""])
        written[-1].append(f"{draw(blanks)}{hop.text}{draw(blanks)}")
    return [
        ",".join(line[draw(st.integers(0, 1)) :] if len(line) > 1 else line) for line in written
    ]


def the_rule(said: Sequence[Hop], *, without: str | None) -> str | None:
    """From the right, the first that is not ours;
    nothing when something unreadable comes before it.
    """
    for hop in reversed(said):
        if hop.address not in OURS:
            return hop.address
    return said[0].address if said else without


@given(st.data(), lists, st.booleans())
def test_a11_the_list_is_read_by_its_rule_however_it_is_written(
    data: st.DataObject, said: Sequence[Hop], is_relayed: bool
) -> None:
    told = scope(PROXY, *data.draw(lines(said)))
    expected = the_rule(said, without=None if is_relayed else PROXY)
    assert TRUSTING.address(told, is_relayed=is_relayed) == expected
    assert TRUSTING_NOBODY.address(told) == PROXY


@given(st.lists(st.binary(max_size=60), max_size=4))
@example([b"%"])
@example([b"[", b'"', b"::%:"])
def test_whatever_bytes_are_sent_there_is_an_address_or_none(values: list[bytes]) -> None:
    told = TRUSTING.address(scope(PROXY, *(value.decode("latin-1") for value in values)))
    assert told is None or str(ip_address(told)) == told
    assert "%" not in (told or "")


class TestPlainForms:
    @pytest.mark.parametrize(
        "zone", ["eth0", "", "25", "1/64", "\x00", "any text%of any kind", "é"]
    )
    def test_a_zone_is_no_part_of_an_address(self, zone: str) -> None:
        assert str(plain_address(f"FE80::1%{zone}")) == "fe80::1"
        assert str(plain_address(f"::ffff:192.0.2.1%{zone}")) == "192.0.2.1"

    @pytest.mark.parametrize(
        "text", ["", "%", "%eth0", "x", "1.2.3", "1.2.3.4:80", "[::1]", "::1 ", "0x7f.1"]
    )
    def test_what_is_no_address_is_none(self, text: str) -> None:
        assert plain_address(text) is None
        with pytest.raises(ValueError, match="does not appear"):
            plain_network(text)

    @pytest.mark.parametrize(
        ("text", "network"),
        [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("fe80::1%eth0", "fe80::1/128"),
            ("fe80::1%eth0/64", "fe80::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
        ],
    )
    def test_a_network_is_read_as_an_address_is(self, text: str, network: str) -> None:
        assert str(plain_network(text)) == network


class TestOrigin:
    def test_a_trusted_proxy_says_how_the_client_reached_it(self) -> None:
        told = {
            "x_forwarded_proto": "https",
            "x_forwarded_host": "scim.example.com",
            "host": "internal",
        }
        for addresses, peer, client, origin in (
            (TRUSTING, PROXY, CLIENT, Origin("https", "scim.example.com")),
            (TRUSTING, PEER, PEER, Origin("http", "internal")),
            (TRUSTING_NOBODY, PROXY, PROXY, Origin("http", "internal")),
        ):
            asked = scope(peer, CLIENT, **told)
            assert (addresses.address(asked), addresses.origin(asked)) == (client, origin)

    @pytest.mark.parametrize("addresses", [TRUSTING, TRUSTING_NOBODY])
    def test_a_peer_without_an_address_is_trusted_with_nothing(
        self, addresses: ClientAddresses
    ) -> None:
        told = scope(None, CLIENT, x_forwarded_proto="https", x_forwarded_host="a", host="b")
        assert (addresses.address(told), addresses.origin(told)) == (None, Origin("http", "b"))

    @pytest.mark.parametrize("is_one_line", [True, False])
    def test_what_a_client_wrote_before_it_does_not_count(self, is_one_line: bool) -> None:
        """Apache puts its word behind the client's in one line, others add a line."""
        told = scope(PROXY, host="internal")
        for name, forged, good in (
            (b"x-forwarded-proto", b"http", b"https"),
            (b"x-forwarded-host", b"evil.example", b"scim.example.com"),
        ):
            lines = [forged + b", " + good] if is_one_line else [forged, good]
            told["headers"] = [*told["headers"], *((name, line) for line in lines)]
        assert TRUSTING.origin(told).url == "https://scim.example.com"

    @pytest.mark.parametrize("scheme", ["ftp", "", "https, http", "javascript"])
    def test_a_scheme_that_is_none_is_not_handed_on(self, scheme: str) -> None:
        assert TRUSTING.origin(scope(PROXY, x_forwarded_proto=scheme)).scheme == "http"


class TestAHost:
    @pytest.mark.parametrize(
        "host", ["scim.example.com", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "a_b"]
    )
    def test_one_that_may_stand_in_an_address_is_told(self, host: str) -> None:
        assert is_host(host)
        assert TRUSTING.origin(scope(PEER, host=host)).url == f"http://{host}"
        told = scope(PROXY, host="inside", x_forwarded_host=host, x_forwarded_proto="https")
        assert TRUSTING.origin(told).url == f"https://{host}"

    @pytest.mark.parametrize(
        "host",
        ["", "x/y", "x y", "x:99999999", "x\r\ny", "x@y", "x?y", "[x]", "[]", "[:::::]", "[1.2.3]"],
    )
    def test_one_that_may_not_is_none(self, host: str) -> None:
        assert not is_host(host)
        assert TRUSTING.origin(scope(PEER, host=host)).url == ""
        told = scope(PROXY, host="" if host == "" else "inside", x_forwarded_host=host)
        assert TRUSTING.origin(told).url == ""

    @given(
        text=st.text("0123456789abcdefv:.%", max_size=12).map(lambda inside: f"[{inside}]")
        | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
    )
    @example(text="[:::::]")
    @example(text="[::1%]")
    def test_in_brackets_there_is_an_address_wherever_it_is_judged(self, text: str) -> None:
        try:
            is_address = bool(IPv6Address(text[1:-1]))
        except ValueError:
            is_address = False
        try:
            check_fields([(b"host", text.encode())], "1.1")
        except Refusal:
            assert not is_address
        else:
            assert is_address
        assert is_host(text) == (is_address and "%" not in text)
        if is_host(text):
            assert urlsplit(urljoin(f"http://{text}/a", "b")).netloc == text

    @pytest.mark.parametrize(
        ("server", "url"),
        [
            (("10.0.0.5", 8000), "http://10.0.0.5:8000"),
            (("fd00::5", 8000), "http://[fd00::5]:8000"),
            (None, "http://localhost"),
        ],
    )
    @pytest.mark.parametrize("headers", [{}, {"host": ""}], ids=["none", "empty"])
    def test_who_tells_none_is_told_what_it_reached(
        self, server: tuple[str, int | None] | None, url: str, headers: dict[str, str]
    ) -> None:
        told = cast("HTTPScope", {**scope(PEER, **headers), "server": server})
        assert TRUSTING.base_url(told) == url

"""Whose address a request comes from: the peer, unless proxies that the settings name say otherwise."""

from ipaddress import ip_network
from typing import Any, cast

import pytest
from litestar.types import HTTPScope

from api.source import ClientSources, Origin

PROXY, OTHER_PROXY, CLIENT, PEER = "10.0.0.1", "10.0.0.2", "203.0.113.7", "198.51.100.9"
TRUSTING = ClientSources([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
TRUSTING_NOBODY = ClientSources()


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
        assert not TRUSTING_NOBODY.is_told

    def test_behind_a_gateway_it_is_not_known(self) -> None:
        assert TRUSTING_NOBODY.address(scope(PEER, CLIENT), is_relayed=True) is None

    def test_a_peer_without_an_address_has_none(self) -> None:
        assert TRUSTING_NOBODY.address(scope(None)) is None


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

    def test_the_forwarded_header_of_rfc_7239_is_never_read(self) -> None:
        assert TRUSTING.address(scope(PROXY, forwarded=f"for={CLIENT}")) == PROXY


class TestOrigin:
    def test_a_trusted_proxy_says_how_the_client_reached_it(self) -> None:
        told = {"x_forwarded_proto": "https", "x_forwarded_host": "scim.example.com", "host": "internal"}
        assert TRUSTING.origin(scope(PROXY, CLIENT, **told)) == Origin(CLIENT, "https", "scim.example.com")
        assert TRUSTING.origin(scope(PEER, CLIENT, **told)) == Origin(PEER, "http", "internal")
        assert TRUSTING_NOBODY.origin(scope(PROXY, CLIENT, **told)) == Origin(PROXY, "http", "internal")

    @pytest.mark.parametrize("scheme", ["ftp", "", "https, http", "javascript"])
    def test_a_scheme_that_is_none_is_not_handed_on(self, scheme: str) -> None:
        assert TRUSTING.origin(scope(PROXY, x_forwarded_proto=scheme)).scheme == "http"

"""A4, A22: an address of the upstream's own becomes ours, in whatever form it is written."""

import re
from itertools import product
from typing import Final

import pytest

from api.doors.scim.location import UpstreamAddress, public_origin

PUBLIC: Final = "https://scim.example.com"
ASKED: Final = "/scim/v2/Users"


def ours(value: str, *, base: str, public: str = PUBLIC) -> str:
    return (
        UpstreamAddress(base)
        .made_ours(value.encode("latin-1"), asked=ASKED, public=public)
        .decode("latin-1")
    )


SCHEMES: Final = (
    "http://",
    "HTTP://",
    "Http:",
    "http:/",
    "http:///",
    "//",
    "\\\\",
    "/\\",
    "ht\ttp://",
    " http://",
)
HOSTS: Final = ("inside", "INSIDE", "inside.", "user@inside", "user:pass@inside", "%69nside")


@pytest.mark.parametrize("base_path", ["", "/tenant/scim"])
@pytest.mark.parametrize("rest", ["/Users/1", "/Users/1?a=b#c", "", "/"])
@pytest.mark.parametrize(("base_port", "ports"), [("", ("", ":80", ":")), (":9000", (":9000",))])
def test_every_form_of_the_upstreams_own_address(
    base_path: str, rest: str, base_port: str, ports: tuple[str, ...]
) -> None:
    for scheme, host, port in product(SCHEMES, HOSTS, ports):
        value = f"{scheme}{host}{port}{base_path}{rest}"
        assert (
            ours(value, base=f"http://inside{base_port}{base_path}") == f"{PUBLIC}/scim/v2{rest}"
        ), value


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "127.0.0.1", "[::ffff:7f00:1]"]
)
def test_an_address_of_ipv4_in_any_writing(host: str) -> None:
    assert (
        ours(f"http://{host}:9000/Users/1", base="http://127.0.0.1:9000")
        == f"{PUBLIC}/scim/v2/Users/1"
    )


@pytest.mark.parametrize(
    "host", ["[::1]", "[0:0::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::0.0.0.1]"]
)
def test_an_address_of_ipv6_in_any_writing(host: str) -> None:
    assert (
        ours(f"http://{host}:9000/Users/1", base="http://[::1]:9000") == f"{PUBLIC}/scim/v2/Users/1"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/tenant/scim/Users/1", "/scim/v2/Users/1"),
        ("/tenant/%73cim/Users/1", "/scim/v2/Users/1"),
        ("/tenant/scim", "/scim/v2"),
        ("Users/1", "/scim/v2/Users/1"),
        ("?a=b", "/scim/v2/Users?a=b"),
    ],
)
def test_an_address_without_a_host_is_whole_for_the_client(value: str, expected: str) -> None:
    assert ours(value, base="http://inside/tenant/scim") == PUBLIC + expected
    assert ours(value, base="http://inside/tenant/scim", public="") == expected


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "https://elsewhere.example/Users",
            "//elsewhere.example/x",
            "http://inside:9001/tenant/scim/Users",
        ),
        *(
            "http://inside/other",
            "/other",
            "mailto:root@inside",
            "http://[inside/",
            "http://inside.example/tenant/scim",
        ),
    ],
)
def test_any_other_address_is_left_alone(value: str) -> None:
    assert ours(value, base="http://inside/tenant/scim") == value


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        *(
            (name, True)
            for name in ("scim.example.com", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "a_b")
        ),
        *(
            (name, False)
            for name in (None, "", "x/y", "x y", "x:99999999", "x\r\ny", "x@y", "x?y", "[x]")
        ),
    ],
)
def test_a_host_that_could_not_stand_in_an_address_is_none(host: str | None, is_told: bool) -> None:
    assert public_origin("https", host) == (f"https://{host}" if is_told else "")
    assert not is_told or re.fullmatch(r"https://[^/?#@\s]+", public_origin("https", host))

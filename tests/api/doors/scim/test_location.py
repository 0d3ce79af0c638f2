"""A4, A22: an address of the upstream's own becomes ours, in whatever form it is written."""

from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.doors.scim.location import UpstreamAddress

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
    "ht\ttp:/",
    " http://",
    " http:\\",
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


HOSTILE: Final = st.text("[]:/?#@\\%.v0f~ \t", max_size=12)


@given(
    value=st.text(st.characters(max_codepoint=255), max_size=30) | HOSTILE,
    host=HOSTILE.map(lambda text: f"[{text}]") | HOSTILE,
)
def test_nothing_that_is_told_is_a_fault(value: str, host: str) -> None:
    """Neither by the upstream, whose answer this is, nor by a client or a proxy."""
    for public in (PUBLIC, "", f"https://{host}"):
        for each in (value, f"Users/{value}", f"http://{host}/{value}"):
            ours(each, base="http://inside/tenant/scim", public=public)

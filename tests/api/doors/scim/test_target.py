"""A3, A4: however an address is written, it leads below the upstream's own path or nowhere."""

import asyncio
import re
from collections.abc import Iterator
from itertools import product
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from litestar.types import HTTPScope, Message

from api.doors.client_address import ClientAddresses
from api.doors.scim import header_sections
from api.doors.scim.proxy import Upstream
from api.doors.scim.target import NotPlain, below_root
from api.settings import Settings

IDENTITY: Final = ((b"x-scim-team-id", b"t"), (b"x-scim-token-id", b"k"), (b"x-scim-use-id", b"u"))
PARTS: Final = (
    *(b"/", b"//", b"%2f", b"%2F", b"%252f", b"\\", b"%5c", b"%255C"),
    *(
        b".",
        b"..",
        b"%2e",
        b"%2E%2e",
        b"%252e",
        b"%25252e",
        b".%2e",
        b"...",
        b"%c0%ae",
        b".%20",
        b"..%00",
    ),
    *(
        b";",
        b"..;",
        b".;x=1",
        b"..%3b",
        b"%3b..",
        b"@",
        b"@decoy",
        b":80",
        b"user:pass@",
        b"?",
        b"#",
        b"%23",
    ),
    *(
        b"Users",
        b"urn:ietf:params:scim:schemas:core:2.0:User",
        b"a%20b",
        b"%zz",
        b"%",
        b"\xff",
        b"\x00",
        b"%0a",
        b"\t",
    ),
    *(b"http://decoy", b"[::1]", b"%40", b"Jos%C3%A9", b".search"),
)
PATHS: Final = st.builds(
    lambda root, parts: root + b"".join(parts),
    st.sampled_from(
        [b"/scim/v2", b"/scim/v2", b"/scim/v2", b"/scim%2fv2", b"/%73cim/v2", b"//scim/v2", b""]
    ),
    st.lists(st.sampled_from(PARTS) | st.binary(min_size=1, max_size=3), max_size=6),
)


def scope_of(raw_path: bytes, query: bytes = b"") -> HTTPScope:
    scope: dict[str, Any] = {
        "method": "GET",
        "path": unquote_to_bytes(raw_path).decode("latin-1"),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(b"host", b"us")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("192.0.2.1", 1),
        "state": {"request_id": "r"},
    }
    return cast("HTTPScope", scope)


def readings(target: bytes) -> Iterator[list[bytes]]:
    """The steps of a path as servers read it:
    decoded never, once, or more often; `;` and `\\` so or so.
    """
    for times, cuts_parameters, turns_slashes, trims in product(
        range(5), (False, True), (False, True), (False, True)
    ):
        path = target
        for _ in range(times):
            path = unquote_to_bytes(path)
        if turns_slashes:
            path = path.replace(b"\\", b"/")
        steps = path.split(b"/")
        if cuts_parameters:
            steps = [step.partition(b";")[0] for step in steps]
        yield [step.rstrip(b" ") for step in steps] if trims else steps


def assert_stays_below(target: bytes, base: bytes) -> None:
    """In no reading does it leave the base, and in all it begins with it as it is."""
    assert target.startswith(base)
    assert not target.startswith(b"//")
    assert re.fullmatch(rb"/[!-~]*", target), "a request line of three words"
    for steps in readings(target.removeprefix(base)):
        assert not {b".", b".."} & set(steps)


def assert_leads_nowhere_else(raw_path: bytes) -> None:
    """Of a path as it arrived: refused, or the same below each root of an upstream."""
    try:
        below = below_root(scope_of(raw_path))
    except NotPlain:
        return
    assert raw_path == b"/scim/v2" + below
    for base in (b"", b"/tenant/scim"):
        target = base + below or b"/"
        if not target.startswith(b"//"):
            # refused by the proxy, where the upstream has no path of its own
            assert_stays_below(target, base)


@settings(max_examples=200, deadline=None)
@given(raw_path=PATHS)
@example(raw_path=b"/scim/v2%2f@127.0.0.1:19901/internal")
@example(raw_path=b"/scim/v2/..;/admin")
@example(raw_path=b"/scim/v2/%252e%252e/admin")
def test_in_no_reading_does_an_address_lead_elsewhere(raw_path: bytes) -> None:
    assert_leads_nowhere_else(raw_path)


@pytest.mark.long
@settings(max_examples=1000, deadline=None)
@given(raw_path=PATHS)
def test_in_no_reading_does_any_of_a_thousand_addresses_lead_elsewhere(raw_path: bytes) -> None:
    assert_leads_nowhere_else(raw_path)


@pytest.mark.slow
@settings(max_examples=30_000, deadline=None)
@given(raw_path=PATHS)
def test_in_no_reading_does_any_of_many_addresses_lead_elsewhere(raw_path: bytes) -> None:
    assert_leads_nowhere_else(raw_path)


SPACES: Final = st.sampled_from([b"", b"", b"", b"%20", b"%2520"])
DOTS: Final = st.sampled_from([b".", b"%2e", b"%2E", b"%252e", b"%25252e", b"%c0%ae", b"%e0%80%ae"])
SLASHES: Final = st.sampled_from([b"/", b"\\", b"%2f", b"%5C", b"%252F"])
PARAMETERS: Final = st.sampled_from([b"", b"", b";", b";x=1", b"%3b", b"%253Bx"])
WAYS_UP: Final = st.tuples(SPACES, DOTS, SPACES, DOTS | st.just(b""), SPACES, PARAMETERS)
UNREADABLE: Final = st.one_of(
    st.sampled_from([b"%", b"%2", b"%g0", b"%0g", b"%%41", b"% 41", b"%u002e"]),
    st.sampled_from([*range(0x20), 0x7F]).map(lambda byte: b"%%%02x" % byte),
    st.sampled_from([*range(0x21), 0x23, *range(0x7F, 0x100)]).map(lambda byte: bytes([byte])),
    st.integers(0x80, 0xFF).map(lambda byte: b"%%%02X" % byte),
    st.integers(0x80, 0xFF).map(lambda byte: b"%%25%02X" % byte),
)
"""Broken escapes, control characters, what is no URL's, what is no UTF-8."""


@given(
    before=st.sampled_from([b"", b"Users", b"x%20y"]), slashes=st.tuples(SLASHES, SLASHES),
    way_up=WAYS_UP, after=st.sampled_from([None, b"", b"admin"]),
)  # fmt: skip
def test_a_step_of_dots_is_refused_in_every_spelling(
    before: bytes, slashes: tuple[bytes, bytes], way_up: tuple[bytes, ...], after: bytes | None
) -> None:
    rest = b"" if after is None else slashes[1] + after
    with pytest.raises(NotPlain):
        below_root(scope_of(b"/scim/v2/" + before + slashes[0] + b"".join(way_up) + rest))


@given(
    UNREADABLE, st.sampled_from([b"", b"/", b"/Users/", b"/Users/a"]), st.sampled_from([b"", b"/x"])
)
def test_what_cannot_be_read_is_refused_wherever_it_stands(
    unreadable: bytes, before: bytes, after: bytes
) -> None:
    with pytest.raises(NotPlain):
        below_root(scope_of(b"/scim/v2" + before + unreadable + after))


@pytest.mark.parametrize(
    "below",
    [
        *(
            b"",
            b"/",
            b"/Users",
            b"/Users/",
            b"//Users",
            b"/Users/2819c223-7f76-453a-919d-413861904646",
        ),
        *(
            b"/Schemas/urn:ietf:params:scim:schemas:core:2.0:User",
            b"/Users/.search",
            b"/Users/a.b..c",
        ),
        *(
            b"/Users/Jos%C3%A9",
            b"/Users/a%20b@example.com",
            b"/Users/a%2Fb",
            b"/Users/a%252Fb",
            b"/Users/x;v=1",
        ),
        *(b"/Groups/%F0%9F%98%80", b"/Users/100%25", b"/Users/!$&'()*+,=:@-._~"),
    ],
)
def test_what_a_client_means_goes_on_byte_for_byte(below: bytes) -> None:
    assert below_root(scope_of(b"/scim/v2" + below)) == below


@pytest.mark.parametrize("query", [b"a=\xff", b"a=b c", b"a=\x00", b"a#b", b"a=\r\nx: y"])
def test_a_query_is_of_printable_characters(query: bytes) -> None:
    with pytest.raises(NotPlain):
        below_root(scope_of(b"/scim/v2/Users", query))


async def ask(raw_paths: list[bytes], base: str) -> tuple[list[bytes], list[bytes]]:
    """Through the proxy, to a real upstream beside a decoy:
    the request lines that each of them got.
    """
    seen: list[bytes] = []
    decoyed: list[bytes] = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: list[bytes]
    ) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    upstream_server = await asyncio.start_server(lambda r, w: answer(r, w, seen), "127.0.0.1", 0)
    decoy = await asyncio.start_server(lambda r, w: answer(r, w, decoyed), "127.0.0.1", 0)
    port, decoy_port = (server.sockets[0].getsockname()[1] for server in (upstream_server, decoy))
    upstream = Upstream(
        Settings(scim_upstream_url=f"http://127.0.0.1:{port}{base}"), ClientAddresses()
    )
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()

    async def send(_: Message) -> None:
        pass

    async with upstream_server, decoy:
        for raw_path in raw_paths:
            scope = scope_of(raw_path.replace(b"decoy", b"127.0.0.1:%d" % decoy_port))
            await upstream.forward(scope, receive, send, IDENTITY)
        await upstream.aclose()
    return seen, decoyed


def check(raw_paths: list[bytes], base: str) -> None:
    seen, decoyed = asyncio.run(ask(raw_paths, base))
    assert decoyed == []
    for line in seen:
        method, target, version = line.split(b" ")
        assert (method, version) == (b"GET", b"HTTP/1.1")
        assert_stays_below(target, base.encode())


@pytest.mark.parametrize("base", ["", "/tenant/scim"])
@settings(max_examples=60, deadline=None)
@given(raw_paths=st.lists(PATHS, min_size=1, max_size=8))
@example(raw_paths=[b"/scim/v2%2f@decoy/internal", b"/scim/v2@decoy/", b"/scim/v2/Users"])
@example(raw_paths=[b"/scim/v2//decoy/Users", b"/scim/v2//", b"/scim/v2///Users"])
def test_origin_and_prefix_are_ours(base: str, raw_paths: list[bytes]) -> None:
    check(raw_paths, base)


def test_an_address_that_is_taken_as_it_comes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the path without a look at it."""
    ways_out = [
        b"/scim/v2/../admin",
        b"/scim/v2/..;/admin",
        b"/scim/v2/%252e%252e/admin",
        b"/scim/v2%2f@decoy/",
    ]
    for way_out in ways_out:
        check([way_out], "/tenant/scim")
    monkeypatch.setattr(
        header_sections, "below_root", lambda scope: scope["raw_path"].removeprefix(b"/scim/v2")
    )
    for way_out in ways_out[:3]:
        with pytest.raises(AssertionError):
            check([way_out], "/tenant/scim")
    # not even then another host: what is connected to is no part of it
    check(ways_out[3:], "/tenant/scim")

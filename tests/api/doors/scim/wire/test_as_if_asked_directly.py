"""What goes through `/scim/v2` is what would have gone directly: each exchange once so, once so.

But for what docs/how-to/scim-service-behind.md names: who asks, the way, one hop's own, the date.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.doors.scim.wire.raw_exchange import Message, Recorder, ask, recorder
from tests.conftest import new_database
from tests.service import running_service

pytestmark = pytest.mark.long

BASE: Final = b"/own/base"
ROOT: Final = b"/scim/v2"
ONE_HOP: Final = (
    *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    *(b"proxy-authenticate", b"proxy-authorization", b"content-length", b"x-hop"),
)
OF_A_REQUEST: Final = (
    *ONE_HOP,
    *(b"host", b"authorization", b"expect", b"via", b"forwarded", b"x-request-id"),
    *(b"x-forwarded-", b"x-scim-", b"x-original-"),
)
OF_AN_ANSWER: Final = (*ONE_HOP, b"date", b"x-request-id")


def has_plain_steps(step: str) -> bool:
    """Also those behind a separator that is encoded: none is dots alone."""
    return all(each.partition(";")[0].strip(".") for each in unquote(step).split("/") if each)


LETTERS: Final = string.ascii_letters + string.digits
PLAIN_STEP: Final = st.builds(
    str.__add__,
    st.sampled_from(LETTERS),
    st.lists(
        st.sampled_from([*LETTERS, *"-._~:@!$&'()*+,=;", "%20", "%C3%A9", "%2F", "%3f", "%23"]),
        max_size=6,
    ).map("".join),
).filter(has_plain_steps)
ODD_STEP: Final = st.sampled_from(
    [".", "..", "%2e%2E", "...", "%252e.", "a%00", "%E9", "%zz", "a#b", "\\", "..;x", "", "a%2f.."]
)
QUERY: Final = st.lists(
    st.sampled_from(
        [
            *("&", "=", "a=1", "a=2", "b=", "?", "/", "%", "%zz", "%00", "+", "%20eq%20", "%C3%A9"),
            *("filter=userName%20eq%20", '"a"', "%22b%22", "[", "]", "..", "\\", "%252e", "'"),
        ]
    ),
    max_size=8,
).map("".join)
ODD_QUERY: Final = st.sampled_from(['filter=userName%20eq%20"a#b"', "#", "a=b#", "%C3%A9#c"])
ASKED: Final = b"""\
If-Match: W/"1"
If-None-Match: "a", "b"
If-None-Match: *
X-Empty:
Accept: a/b
Accept: c/d;q=0.1
Accept-Encoding: gzip, br;q=0
X-Latin: \xe9 x
Content-Type: application/scim+json; charset=utf-8
Content-Encoding: gzip
Cookie: a=1; b=2
Range: x
Prefer: return=minimal
Origin: https://a
User-Agent: a (b) c/1
Date: now
TE: trailers
Forwarded: for=x
X-Scim-Team-Id: y
X-Forwarded-For: 1.2.3.4
X_Forwarded_Host: evil
Cache-Control: no-store""".splitlines()
ANSWERED: Final = b"""\
Set-Cookie: a=1
Set-Cookie: b=2
ETag: W/"1"
Retry-After: 7
WWW-Authenticate: Basic realm="x"
Content-Type: a/b
X-Empty:
Location: https://elsewhere.example/a
Link: </a>; rel=next
Server: x
Via: 1.1 a
Content-Encoding: gzip
Age: 1
Connection: x-hop
X-Hop: 1
Keep-Alive: timeout=5
X-Latin: \xe9
Cache-Control: no-store
Vary: a
Vary: b
Date: then""".splitlines()
STATUSES: Final = (200, 201, 204, 205, 304, 307, 401, 403, 404, 412, 429, 503, 599)
BODY: Final = st.binary(max_size=40) | st.sampled_from([b"x" * 70_000, b"0\r\n\r\n", b"{}" * 3000])


@dataclass(frozen=True)
class Request:
    """target: below the root. may_be_refused: there is a step or a query that is not plain."""

    method: str
    target: str
    may_be_refused: bool
    fields: list[bytes]
    body: bytes
    framing: str

    def to_bytes(self, base: bytes, *more: bytes) -> bytes:
        version, framing, body = b"HTTP/1.1", [], self.body
        if self.framing == "chunked":
            half = len(body) // 2
            framing = [b"Transfer-Encoding: chunked", b"Trailer: X-Scim-Team-Id"]
            body = b"".join(
                b"%X;a=b\r\n%b\r\n" % (len(piece), piece)
                for piece in (body[:half], body[half:])
                if piece
            )
            body += b"0\r\nX-Scim-Team-Id: evil\r\n\r\n"
        elif body or self.framing != "none":
            framing = [b"Content-Length: %d" % len(body)]
        if self.framing == "1.0":
            version = b"HTTP/1.0"
        elif self.framing == "expects 100":
            framing.append(b"Expect: 100-continue")
        line = b"%b %b%b %b" % (self.method.encode(), base, self.target.encode(), version)
        fields = [b"Host: us", b"Connection: close, X-Hop", b"X-Hop: 1", *self.fields]
        return b"\r\n".join([line, *fields, *framing, *more, b"", body])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    is_odd = draw(st.sampled_from([False, False, False, True]))
    steps = draw(st.lists(PLAIN_STEP | ODD_STEP if is_odd else PLAIN_STEP, max_size=3))
    query = draw(QUERY | ODD_QUERY if is_odd else QUERY)
    target = "".join(f"/{step}" for step in steps) + (f"?{query}" if query else "")
    return Request(
        draw(st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])),
        target,
        is_odd,
        draw(st.lists(st.sampled_from(ASKED), max_size=6)),
        draw(BODY),
        draw(st.sampled_from(["length", "chunked", "none", "1.0", "expects 100"])),
    )


@dataclass(frozen=True)
class Answer:
    """is_reset: the connection does not end in order."""

    data: bytes
    is_reset: bool = False


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    status = draw(st.sampled_from(STATUSES))
    fields = draw(st.lists(st.sampled_from([*ANSWERED, b"X-Long: " + b"x" * 9000]), max_size=6))
    body = draw(BODY)
    framing = draw(st.sampled_from(["length", "chunked", "connection"]))
    if status in {204, 304}:
        framing, body = "none", b""
    is_short, is_reset = draw(st.sampled_from([*[(False, False)] * 3, (True, False), (True, True)]))
    if framing == "length":
        fields.append(b"Content-Length: %d" % (len(body) + is_short))
    elif framing == "chunked":
        fields.append(b"Transfer-Encoding: chunked")
        body = (b"%x;e\r\n%b\r\n" % (len(body), body) if body else b"") + (
            b"" if is_short else b"0\r\nX-Request-Id: evil\r\n\r\n"
        )
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]))
    head = b"\r\n".join([b"HTTP/1.1 %d Some reason" % status, *fields, b"", b""])
    return Answer(interim + head + body, is_reset)


@dataclass(frozen=True)
class Way:
    """port, token: of the service. upstream: behind it, and asked directly."""

    port: int
    token: bytes
    upstream: Recorder


@pytest.fixture(scope="module")
def way(server: str) -> Iterator[Way]:
    with new_database(server) as database, recorder() as upstream:
        environment = {
            "SCIM_UPSTREAM_URL": f"http://127.0.0.1:{upstream.port}{BASE.decode()}",
            "SCIM_LEDGER_RATE_PER_TOKEN": "0",
            "SCIM_LEDGER_RATE_PER_SOURCE": "0",
        }
        with running_service(database, environment=environment) as service:
            made = service.client.post(
                "/scim-token",
                auth=service.api_token(),
                json={"team_id": str(uuid4()), "name": "directly"},
            ).json()
            port = urlsplit(service.url).port
            assert port is not None
            yield Way(port, made["token"].encode(), upstream)


WHOLE: Final = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
HALF: Final = Answer(b"HTTP/1.1 200 OK\r\n\r\nhalf of it", is_reset=True)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@example(request=Request("DELETE", "/Users/1#2", True, [], b"", "none"), answer=WHOLE)
@example(request=Request("GET", "/Users", False, [], b"", "none"), answer=HALF)
@given(request=requests(), answer=answers())
def test_upstream_and_client_hear_the_same(way: Way, request: Request, answer: Answer) -> None:
    way.upstream.answer, way.upstream.is_reset = answer.data, answer.is_reset
    way.upstream.heard.clear()
    direct = ask(way.upstream.port, request.to_bytes(BASE), method=request.method)
    authorization = b"Authorization: Bearer " + way.token
    through = ask(way.port, request.to_bytes(ROOT, authorization), method=request.method)
    there, *here = way.upstream.heard
    if not here:
        assert request.may_be_refused
        assert through.start.startswith(b"HTTP/1.1 400 ")
        return
    (here_too,) = here
    assert_same_request(there, here_too)
    if direct.is_whole:
        assert_same_answer(direct, through)
    else:  # what came of it goes on, or none of it
        assert not through.is_whole or through.start.startswith(b"HTTP/1.1 502 ")


def assert_same_request(direct: Message, through: Message) -> None:
    assert through.start.split(b" ")[:2] == direct.start.split(b" ")[:2]
    assert through.without(*OF_A_REQUEST) == [
        (name, value)
        for name, value in direct.without(*OF_A_REQUEST)
        if not name.replace(b"_", b"-").startswith(b"x-forwarded-")
    ]
    assert through.body == direct.body


def assert_same_answer(direct: Message, through: Message) -> None:
    assert through.start[9:12] == direct.start[9:12]
    assert through.without(*OF_AN_ANSWER) == direct.without(*OF_AN_ANSWER)
    assert through.is_whole
    assert through.body == direct.body

"""A1, A2, A7, A8: where a request ends, whatever else its head says, over raw sockets."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.server.protocol import StrictHttpProtocol
from tests.api.server.serving import connect, exchange, head, read_to_end, serving, statuses

Address = tuple[str, int]
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: ledger\r\n\r\n"
FRAMING: Final = {b"content-length", b"transfer-encoding"}
HELD: Final = threading.Barrier(2, timeout=5)
"""Met twice by who holds the server: it reads nothing in between."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tell path, headers and body; a path below /door is answered before a body is read,
    as doors do.
    """
    if scope["path"] == "/mirror":
        await mirror(receive, send)
        return
    if scope["path"] == "/door/held":
        HELD.wait()
        HELD.wait()
    body, more = b"", not scope["path"].startswith("/door")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
    answer = json.dumps([scope["method"], scope["path"], headers, body.decode("latin-1")]).encode()
    length = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": answer})


async def mirror(receive: Any, send: Any) -> None:
    """Answer each piece of the body with itself."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(StrictHttpProtocol, app) as bound:
        yield bound


@dataclass(frozen=True)
class Sent:
    """A request.

    body: None for one without framing, else what is in it; pieces: its chunks, if chunked.
    """

    method: str
    body: bytes | None
    pieces: Sequence[bytes] | None
    fields: Sequence[bytes]

    def to_bytes(self, number: int) -> bytes:
        lines = [*self.fields]
        if self.pieces is not None:
            lines.append(b"Transfer-Encoding: chunked")
            body = (
                b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in self.pieces)
                + b"0\r\n\r\n"
            )
        else:
            body = self.body or b""
            if self.body is not None:
                lines.insert(len(lines) // 2, b"Content-Length: %d" % len(body))
        return head(*lines, method=self.method.encode(), target=b"/%d" % number) + body


BLANKS = st.text(" \t", max_size=3).map(str.encode)
BODIES = st.one_of(st.binary(max_size=300), st.just(SMUGGLED), st.just(b"0\r\n\r\n" + SMUGGLED))
OFFERS = st.sampled_from(
    [
        [],
        [b"Connection: Upgrade", b"Upgrade: h2c"],
        [
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
        ],
        [
            b"Upgrade: websocket",
            b"connection: keep-alive, UPGRADE",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZQ==",
        ],
        [b"UPGRADE: TLS/1.0, h2c", b"Upgrade: foo/2", b"Connection:upgrade"],
        [b"Upgrade:", b"Connection: upgrade"],
        [b"Connection: upgrade"],
        [b"Upgrade: h2c"],
    ]
)
EXPECT = st.sampled_from([[], [], [b"Expect: 100-continue"]])


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    body = None if framing == "none" else draw(BODIES)
    pieces = None
    if framing == "chunked":
        cuts = sorted(draw(st.lists(st.integers(0, len(body or b"")), max_size=3)))
        pieces = [piece for piece in _cut(body or b"", cuts) if piece]
    fields = [
        field + draw(BLANKS)
        for field in [*draw(OFFERS), *draw(EXPECT), b"X-A:" + draw(BLANKS) + b"a"]
    ]
    method = draw(st.sampled_from(["POST", "PATCH", "PUT", "GET", "DELETE", "PROPFIND"]))
    return Sent(method, body, pieces, draw(st.permutations(fields)))


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def converse(address: Address, sent: Sequence[Sent], cuts: Sequence[float]) -> None:
    """Send these requests, cut into packets anywhere;
    each gets its own answer, with all that it sent.
    """
    stream = b"".join(request.to_bytes(number) for number, request in enumerate(sent))
    packets = _cut(stream, sorted(int(cut * len(stream)) for cut in cuts))
    with connect(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            client.sendall(packet)
            time.sleep(0.0003)  # else the kernel would join them; the answers do not depend on it
        client.sendall(head(b"Connection: close", target=b"/last"))
        answers = told(read_to_end(client))
    assert [(method, path, body) for method, path, _, body in answers] == [
        *((each.method, f"/{number}", each.body or b"") for number, each in enumerate(sent)),
        ("GET", "/last", b""),
    ]
    assert all(["x-a", "a"] in headers for _, _, headers, _ in answers[:-1])


def told(received: bytes) -> list[tuple[str, str, list[list[str]], bytes]]:
    """The answers in what was received, in their order; interim ones are not counted."""
    answers = []
    while received:
        answer_head, _, received = received.partition(b"\r\n\r\n")
        if answer_head.startswith(b"HTTP/1.1 100 "):
            continue
        assert answer_head.startswith(b"HTTP/1.1 200 "), answer_head
        length = int(answer_head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        method, path, headers, body = json.loads(received[:length])
        answers.append((method, path, headers, body.encode("latin-1")))
        received = received[length:]
    return answers


H2C = [
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABk",
    b"X-A: a",
]


CONVERSATIONS: Final = (
    st.lists(requests(), min_size=1, max_size=5),
    st.lists(st.floats(0, 1), max_size=6),
)


@settings(max_examples=60)
@example([Sent("POST", SMUGGLED, None, H2C)], [])
@example([Sent("PATCH", b"abc", [b"a", b"bc"], H2C), Sent("POST", SMUGGLED, None, H2C)], [0.5])
@given(*CONVERSATIONS)
def test_each_request_gets_its_own_answer_and_its_own_bytes(
    address: Address, sent: list[Sent], cuts: list[float]
) -> None:
    """A1, A2: framings x offers to upgrade x Expect x blanks x packets x pipelining."""
    converse(address, sent, cuts)


@pytest.mark.long
@settings(max_examples=400)
@given(*CONVERSATIONS)
def test_so_it_does_in_many_conversations(
    address: Address, sent: list[Sent], cuts: list[float]
) -> None:
    converse(address, sent, cuts)


class SkipsTheBody(StrictHttpProtocol):
    """The planted bug that smuggles: behind an offer, what is in the body is the next request."""

    def _without_offer(self) -> bytes:
        lines = super()._without_offer().split(b"\r\n")
        return b"\r\n".join(line for line in lines if line.partition(b":")[0] not in FRAMING)


class GoesDeaf(SkipsTheBody):
    """The planted bug of before: what follows an offer is of no protocol we speak."""

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            plain_head = self._without_offer()
            self.parser = self._new_parser()
            self.parser.feed_data(plain_head)
            self._is_deaf = True
            self.transport.close()


@pytest.mark.parametrize("bug", [SkipsTheBody, GoesDeaf])
def test_planted_a_body_that_is_not_read_behind_an_offer_is_noticed(
    bug: type[StrictHttpProtocol],
) -> None:
    """By what is answered, or by the kernel: it resets a connection that is closed unread."""
    one = [Sent("POST", SMUGGLED, None, H2C)]
    with serving(bug, app) as broken, pytest.raises((AssertionError, ConnectionResetError)):
        converse(broken, one, [])


def test_what_follows_an_offer_and_close_is_not_heard(address: Address) -> None:
    request = head(
        b"Connection: close, upgrade", b"Upgrade: x", b"Content-Length: 3", method=b"POST"
    )

    assert [body for *_, body in told(exchange(address, request + b"abc" + SMUGGLED))] == [b"abc"]


def test_http_1_0_may_offer_too(address: Address) -> None:
    request = head(
        b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 3", method=b"POST", version=b"1.0"
    )

    assert [body for *_, body in told(exchange(address, request + b"abc"))] == [b"abc"]


OFFER: Final = (b"Connection: Upgrade", b"Upgrade: h2c")


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 3", b"Content-Length: 3"),
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: chunked, gzip",),
        (b"Content-Length: -3",),
        (b"Authorization: a", b"Authorization: b"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_is_refused_is_refused_beside_an_offer_too(
    fields: tuple[bytes, ...], is_first: bool, address: Address
) -> None:
    lines = (*OFFER, *fields) if is_first else (*fields, *OFFER)

    assert statuses(exchange(address, head(*lines, method=b"POST") + b"abc" + SMUGGLED)) == [400]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"X-Long: " + b"x" * 17_000,), 431),
        ((b"X-Many: x",) * 101, 431),
    ],
    ids=["coding", "long", "many"],
)
def test_an_offer_does_not_change_why_a_request_is_refused(
    fields: tuple[bytes, ...], status: int, address: Address
) -> None:
    """A2, A4: the refusal was lost between the two parsers, and told as 400 and not valid HTTP."""
    assert statuses(exchange(address, head(*OFFER, *fields, method=b"POST"))) == [status]


@pytest.mark.parametrize("target", [b"ledger:443", b"/scim/v2/Users", b"*"])
def test_a_tunnel_is_refused(target: bytes, address: Address) -> None:
    request = head(b"Content-Length: 3", method=b"CONNECT", target=target)

    assert statuses(exchange(address, request + b"abc" + SMUGGLED)) == [400]


# A7: answered before the request is whole


LATE_BODIES: Final = {
    "a length and no body": ((b"Content-Length: 77",), b""),
    "half a body": ((b"Content-Length: 77",), b"a" * 38),
    "one byte less": ((b"Content-Length: 77",), b"a" * 76),
    "a huge length": ((b"Content-Length: 9223372036854775807",), b"a"),
    "chunks without an end": ((b"Transfer-Encoding: chunked",), b"3\r\nabc\r\n"),
    "no chunk": ((b"Transfer-Encoding: chunked",), b""),
    "no end of trailers": ((b"Transfer-Encoding: chunked",), b"0\r\n"),
    "waits for 100": ((b"Expect: 100-continue", b"Content-Length: 77"), b""),
    "waits for 100, chunked": ((b"Expect: 100-continue", b"Transfer-Encoding: chunked"), b""),
    "an offer": ((*OFFER, b"Content-Length: 77"), b""),
}


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
@pytest.mark.parametrize(("fields", "begun"), LATE_BODIES.values(), ids=LATE_BODIES)
def test_a_connection_ends_with_an_answer_that_came_before_the_body(
    fields: tuple[bytes, ...], begun: bytes, method: bytes, address: Address
) -> None:
    with connect(address) as client:
        client.sendall(head(*fields, method=method, target=b"/door") + begun)
        answer = client.recv(65536)
        with contextlib.suppress(ConnectionError):
            # what comes now may be the rest, or the next request
            client.sendall(SMUGGLED)
        answer += read_to_end(client)

    assert statuses(answer) == [200]
    assert b"connection: close\r\n" in answer


class GoesOn(StrictHttpProtocol):
    """The planted bug of before: the connection goes on, and what comes next is the body."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        assert self._newest is not None
        self._newest.is_request_whole = True

    def on_answered(self) -> None:
        self._phase = "idle"
        super().on_answered()


@pytest.mark.long
def test_planted_a_connection_that_goes_on_before_the_body_is_noticed() -> None:
    with serving(GoesOn, app) as broken, pytest.raises((AssertionError, TimeoutError)):
        test_a_connection_ends_with_an_answer_that_came_before_the_body(
            (b"Content-Length: 77",), b"", b"GET", broken
        )


def test_an_answer_may_flow_while_the_request_does(address: Address) -> None:
    """Its length is not known; the connection goes on if the request is whole
    at the end of the answer.
    """
    with connect(address) as client:
        client.sendall(head(b"Content-Length: 2", method=b"POST", target=b"/mirror") + b"a")
        answer = b""
        while not answer.endswith(b"1\r\na\r\n"):
            answer += client.recv(999)
        client.sendall(b"b" + head(b"Connection: close"))
        answer += read_to_end(client)

    first, _, second = answer.partition(b"0\r\n\r\n")
    assert b"connection: close" not in first
    assert first.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n")
    assert statuses(second) == [200]


@pytest.mark.parametrize("size", [1, 77, 20_000])
@pytest.mark.parametrize("fields", [(), (b"Expect: 100-continue",), OFFER])
def test_a_body_that_is_there_does_not_cost_the_connection(
    fields: tuple[bytes, ...], size: int, address: Address
) -> None:
    request = (
        head(*fields, b"Content-Length: %d" % size, method=b"POST", target=b"/door") + b"a" * size
    )

    with connect(address) as holder, connect(address) as client:
        holder.sendall(head(target=b"/door/held"))
        HELD.wait()
        client.sendall(request * 3 + head(b"Connection: close"))
        HELD.wait()

        assert statuses(read_to_end(client)) == [200] * 4


@pytest.mark.parametrize("pieces", [1, 20])
def test_who_still_sends_can_read_its_answer(pieces: int, address: Address) -> None:
    """Not a reset that throws it away (RFC 9112 §9.6)."""
    size = 5_000_000
    with connect(address) as client:
        client.sendall(head(b"Content-Length: %d" % size, method=b"POST", target=b"/door"))
        for _ in range(pieces):
            client.sendall(b"a" * (size // pieces))
        client.shutdown(socket.SHUT_WR)
        answer = read_to_end(client)

    assert statuses(answer) == [200]
    assert answer.endswith(b'""]')


def test_a_refused_peer_that_still_sends_can_read_why(address: Address) -> None:
    with connect(address) as client:
        client.sendall(head(b"Content-Length: 3", b"Transfer-Encoding: chunked", method=b"POST"))
        client.sendall(b"a" * 3_000_000)
        client.shutdown(socket.SHUT_WR)

        assert statuses(read_to_end(client)) == [400]


def test_no_100_comes_where_no_body_does(address: Address) -> None:
    for request in (
        head(b"Expect: 100-continue", b"Connection: close"),
        head(b"Expect: 100-continue", b"Content-Length: 3", method=b"POST", version=b"1.0")
        + b"abc",
    ):
        assert exchange(address, request).startswith(b"HTTP/1.1 200 ")


# A8: blanks around a value


@settings(max_examples=60)
@given(
    st.lists(st.tuples(BLANKS, st.sampled_from([b"v", b"a  b", b"", b"\xff"]), BLANKS), max_size=6)
)
def test_white_space_around_a_value_is_no_part_of_it(
    address: Address, values: list[tuple[bytes, bytes, bytes]]
) -> None:
    fields = [b"X-V:" + before + value + after for before, value, after in values]
    request = head(*fields, b"Content-Length:\t3 \t", b"Connection: \tclose\t ", method=b"POST")

    ((_, _, headers, body),) = told(exchange(address, request + b"abc"))

    assert [value for name, value in headers if name == "x-v"] == [
        value.decode("latin-1") for _, value, _ in values
    ]
    assert ["content-length", "3"] in headers
    assert body == b"abc"


@pytest.mark.parametrize("blanks", [b" ", b"  ", b"\t", b" \t", b"\t "])
def test_a_chunked_body_stays_one_with_blanks_after_the_word(
    blanks: bytes, address: Address
) -> None:
    """Blanks are fine; the parser refuses a tab there, and then it hears nothing more."""
    request = head(b"Transfer-Encoding: chunked" + blanks, b"Connection: close", method=b"POST")
    answer = exchange(address, request + b"3\r\nabc\r\n0\r\n\r\n" + SMUGGLED)

    if b"\t" in blanks:
        assert statuses(answer) == [400]
    else:
        assert [body for *_, body in told(answer)] == [b"abc"]


@pytest.mark.parametrize("sound", [1, 3])
@pytest.mark.parametrize("is_cut", [False, True])
def test_those_before_a_broken_body_are_answered(
    sound: int, is_cut: bool, address: Address
) -> None:
    broken = head(b"Transfer-Encoding: chunked", method=b"POST"), b"zz\r\n" + SMUGGLED
    before = b"".join(head(target=b"/%d" % number) for number in range(sound))
    packets = [before + broken[0], broken[1]] if is_cut else [before + b"".join(broken)]

    answers = exchange(address, *packets)

    assert [path for _, path, _, _ in told(answers.partition(b"HTTP/1.1 400")[0])] == [
        f"/{number}" for number in range(sound)
    ]
    assert statuses(answers)[sound:] in ([], [400])

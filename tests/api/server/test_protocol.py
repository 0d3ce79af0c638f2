"""The strict protocol, over raw sockets, in front of a real server."""

import asyncio
import contextlib
import gc
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.server.exchange import head_of
from api.server.protocol import StrictHttpProtocol
from tests.api.server.serving import (
    CHUNKED,
    GOOD,
    LAST,
    app,
    connect,
    exchange,
    head,
    read_to_end,
    serving,
    statuses,
)

SECRET = b"scim_live_never_to_be_repeated"


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with serving(StrictHttpProtocol) as bound:
        yield bound


@dataclass(frozen=True)
class Case:
    name: str
    request: bytes
    status: int


TWICE = b"Authorization: Bearer " + SECRET
REFUSED = [
    Case("two Authorization", head(TWICE, TWICE), 400),
    Case("two Authorization, other case", head(TWICE, TWICE.upper()), 400),
    Case("two Host", head(b"host: elsewhere"), 400),
    Case("# in the path", b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    Case("# in the query", b'GET /?filter=a%20eq%20"b#c" HTTP/1.1\r\nHost: x\r\n\r\n', 400),
    Case("# in a whole URL", b"GET http://x/a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    Case("no Host", b"GET / HTTP/1.1\r\nX: " + SECRET + b"\r\n\r\n", 400),
    Case(
        "two Content-Length",
        head(b"Content-Length: 3", b"Content-Length: 3", method=b"POST") + b"abc",
        400,
    ),
    Case("Content-Length list", head(b"Content-Length: 3, 3", method=b"POST") + b"abc", 400),
    Case(
        "length, then chunked",
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\n\r\n",
        400,
    ),
    Case(
        "chunked, then length",
        head(b"Transfer-Encoding: chunked", b"Content-Length: 5", method=b"POST") + b"0\r\n\r\n",
        400,
    ),
    Case(
        "chunked twice",
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
    ),
    Case("unknown coding", head(b"Transfer-Encoding: gzip", method=b"POST") + b"0\r\n\r\n", 400),
    Case(
        "coded, chunked",
        head(b"Transfer-Encoding: gzip, chunked", method=b"POST") + b"0\r\n\r\n",
        501,
    ),
    Case(
        "coded, chunked, in two fields",
        head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", method=b"POST")
        + b"0\r\n\r\n",
        501,
    ),
    Case(
        "chunked twice in one field",
        head(b"Transfer-Encoding: chunked, chunked", method=b"POST") + b"0\r\n\r\n",
        400,
    ),
    Case("chunked with a parameter", head(b"Transfer-Encoding: chunked;a=b", method=b"POST"), 400),
    Case("an empty coding", head(b"Transfer-Encoding:", method=b"POST"), 400),
    Case("chunked in 1.0", head(b"Transfer-Encoding: chunked", version=b"1.0") + b"0\r\n\r\n", 400),
    Case("HTTP/0.9", b"GET /" + SECRET + b"\r\n\r\n", 400),
    Case("HTTP/2.0", head(version=b"2.0"), 400),
    Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Case("CONNECT", b"CONNECT ledger:443 HTTP/1.1\r\nHost: ledger:443\r\n\r\n", 400),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00", 400),
    Case("bare line feeds", GOOD.replace(b"\r\n", b"\n"), 400),
    Case("folded header", head(b"X: a", b" " + SECRET), 400),
    Case("blank before colon", head(b"Authorization : " + SECRET), 400),
    Case("NUL in header", head(b"X: " + SECRET + b"\x00"), 400),
    Case("target not ASCII", head(target=b"/\xff" + SECRET), 400),
    Case("bad chunk size", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    Case("long target", head(target=b"/" + b"a" * 8192), 414),
    Case("long unfinished target", b"GET /" + b"a" * 25_000, 414),
    Case("one large header", head(b"X: " + b"a" * 16_384), 431),
    Case("one huge header", head(b"X: " + b"a" * 1_000_000), 431),
    Case("many headers", head(*[b"X: 1"] * 100), 431),
    Case("unfinished headers", head(*[b"X: " + b"a" * 80] * 400)[:-4], 431),
    Case("endless trailer", CHUNKED + b"0\r\nX: " + b"a" * 1_000_000, 431),
    Case("endless chunk extension", CHUNKED + b"1;x=" + b"a" * 1_000_000, 431),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_request_that_could_harm_is_refused_and_the_connection_closed(
    case: Case, address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = exchange(address, case.request)

    answer_head, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [case.status]
    assert b"connection: close" in answer_head
    assert b"content-type: application/problem+json" in answer_head
    assert b"content-length: %d\r\n" % len(body) in answer_head
    (request_id,) = re.findall(rb"x-request-id: ([0-9a-f-]{36})\r\n", answer_head)
    problem = json.loads(body)
    assert list(problem) == ["type", "title", "status", "detail", "instance"]
    assert problem["instance"] == f"urn:uuid:{request_id.decode()}"
    assert problem["status"] == case.status
    assert SECRET.lower() not in answer.lower()
    assert SECRET.decode().lower() not in caplog.text.lower()
    assert "Refused a request" in caplog.text
    assert statuses(exchange(address, GOOD + LAST)) == [200, 200]


def test_two_authorization_headers_get_this_problem(address: tuple[str, int]) -> None:
    body = exchange(address, head(TWICE, TWICE)).partition(b"\r\n\r\n")[2]

    problem = json.loads(body)
    assert UUID(problem.pop("instance"))
    assert problem == {
        "type": "/problems/bad-request",
        "title": "Bad request",
        "status": 400,
        "detail": "More than one Authorization header.",
    }


def test_what_a_request_before_spoke_is_forgotten(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(head(target=b"/scim/v2/Users"))
        assert statuses(client.recv(65536)) == [200]
        client.sendall(b"no HTTP\r\n\r\n")
        answer = read_to_end(client)

    assert statuses(answer) == [400]
    assert b"content-type: application/problem+json\r\n" in answer


WELCOME = [
    Case(
        "at every limit",
        head(*[b"X: " + b"a" * 140] * 98, b"Connection: close", target=b"/" + b"a" * 8191),
        200,
    ),
    Case("1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", 200),
    Case("one Authorization", head(TWICE, b"Connection: close"), 200),
    Case("leading blank lines", b"\r\n\r\n" + LAST, 200),
    Case(
        "large body",
        head(b"Content-Length: 500000", b"Connection: close", method=b"POST") + b"a" * 500_000,
        200,
    ),
    Case("chunked", CHUNKED + b"3\r\nabc\r\n" * 9 + b"0\r\n\r\n" + LAST, 200),
]


@pytest.mark.parametrize("case", WELCOME, ids=lambda case: case.name)
def test_an_ordinary_request_is_answered(case: Case, address: tuple[str, int]) -> None:
    assert set(statuses(exchange(address, case.request))) == {200}


def test_a_request_may_arrive_byte_by_byte(address: tuple[str, int]) -> None:
    pieces = [LAST[i : i + 1] for i in range(len(LAST))]

    assert statuses(exchange(address, *pieces)) == [200]


def test_pipelined_requests_are_answered_in_order(address: tuple[str, int]) -> None:
    answer = exchange(address, head(target=b"/slow"), GOOD * 30 + LAST)

    assert statuses(answer) == [200] * 32
    assert answer.index(b"/slow 0 0") < answer.index(b"/good 0 0") < answer.index(b"/last 0 0")


def test_pipelined_requests_cut_anywhere_are_not_taken_for_one_large_head(
    address: tuple[str, int],
) -> None:
    many = head(b"X-Padding: " + b"x" * 1000) * 30

    assert statuses(exchange(address, many[:20_001], many[20_001:] + LAST)) == [200] * 31


@pytest.mark.parametrize("offered", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_few_requests_wait_on_a_connection(offered: bytes, address: tuple[str, int]) -> None:
    """A6: 230 KB of small requests in one read took 16 MB,
    and whoever sends them needs no token.
    """
    many = (GOOD[:-2] + offered + b"\r\n") * 3000

    answer = exchange(address, head(target=b"/slow") + many)

    assert statuses(answer) == [200] * (1 + StrictHttpProtocol.max_waiting)


def test_every_request_learns_that_its_peer_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """A14: the stock protocol tells the newest alone;
    the one being answered wrote on, and failed.
    """
    is_told, is_asked = threading.Event(), threading.Event()

    async def stream(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        is_asked.set()
        if (await receive())["type"] == "http.disconnect":
            is_told.set()
        await send({"type": "http.response.body", "body": b"b"})

    with serving(StrictHttpProtocol, stream) as bound:
        with connect(bound) as client:
            client.sendall(GOOD + GOOD)
            assert is_asked.wait(5)
        assert is_told.wait(5)

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_broken_request_behind_a_sound_one_never_takes_its_answer(
    address: tuple[str, int],
) -> None:
    answer = exchange(address, head(target=b"/slow") + head(TWICE, TWICE) + GOOD)

    assert statuses(answer) == [200]
    assert answer.endswith(b"/slow 0 0")


def test_the_head_waits_for_the_body(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(head(b"Connection: close", target=b"/late-body"))
        client.settimeout(0.15)
        with pytest.raises(TimeoutError):
            client.recv(65536)
        client.settimeout(5)
        answer = read_to_end(client)

    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\n/late-body 0 0")


def test_a_head_that_no_body_comes_after_is_sent(address: tuple[str, int]) -> None:
    answer = exchange(address, head(target=b"/no-body"))

    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\n")


def test_an_answer_to_head_is_its_head(address: tuple[str, int]) -> None:
    answer = exchange(
        address, head(method=b"HEAD") * 2 + head(b"Connection: close", method=b"HEAD")
    )

    assert statuses(answer) == [200] * 3
    assert answer.endswith(b"\r\n\r\n")


def test_who_waits_for_100_gets_it_before_the_body_is_sent(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(
            head(b"Expect: 100-continue", b"Content-Length: 3", b"Connection: close", method=b"PUT")
        )
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        answer = read_to_end(client)

    assert statuses(answer) == [200]
    assert answer.endswith(b"/ 0 3")


def test_a_request_leaves_nothing_to_the_garbage_collector(address: tuple[str, int]) -> None:
    """Cycles of references cost a tenth of what a door can do, and pauses besides."""
    with connect(address) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(200):
                client.sendall(GOOD)
                assert statuses(client.recv(65536)) == [200]
            assert gc.collect() < 200
        finally:
            gc.enable()


def test_trailers_are_not_headers(address: tuple[str, int]) -> None:
    answer = exchange(
        address, CHUNKED + b"1\r\na\r\n0\r\nAuthorization: " + SECRET + b"\r\n\r\n" + LAST
    )

    assert b"/echo 0 1" in answer
    assert statuses(answer) == [200, 200]


class Impatient(StrictHttpProtocol):
    receive_timeout_s: ClassVar[float] = 0.3
    keep_alive_timeout_s: ClassVar[float] = 0.9
    body_timeout_s: ClassVar[float] = 1.5


@pytest.fixture(scope="module")
def impatient_address() -> Iterator[tuple[str, int]]:
    with serving(Impatient) as bound:
        yield bound


def drip(client: socket.socket, data: bytes) -> None:
    """Send byte by byte, a tenth of a second apart, until the server has had enough."""
    client.settimeout(0.1)
    for i in range(len(data)):
        client.send(data[i : i + 1])
        with contextlib.suppress(TimeoutError):
            assert client.recv(1) == b""
            return
    pytest.fail("the server listened to the end")


def get(client: socket.socket) -> None:
    client.sendall(GOOD)
    assert client.recv(999).startswith(b"HTTP/1.1 200 ")


def send_nothing(client: socket.socket) -> None:
    assert client.recv(1) == b""


def send_blank_lines(client: socket.socket) -> None:
    drip(client, b"\r\n" * 50)


def send_slow_head(client: socket.socket) -> None:
    drip(client, GOOD)


def send_slow_second_head(client: socket.socket) -> None:
    get(client)
    drip(client, GOOD)


def send_half_a_body(client: socket.socket) -> None:
    client.sendall(CHUNKED + b"9\r\nabc")
    assert client.recv(1) == b""


def send_a_body_of_many_pieces(client: socket.socket) -> None:
    client.sendall(CHUNKED)
    drip(client, b"1\r\na\r\n" * 50)


def stay_idle(client: socket.socket) -> None:
    get(client)
    assert client.recv(1) == b""


def stay_idle_with_blank_lines(client: socket.socket) -> None:
    get(client)
    drip(client, b"\r\n" * 50)


LATE: list[tuple[Callable[[socket.socket], None], float]] = [
    (send_nothing, Impatient.receive_timeout_s),
    (send_blank_lines, Impatient.receive_timeout_s),
    (send_slow_head, Impatient.receive_timeout_s),
    (send_slow_second_head, Impatient.receive_timeout_s),
    (send_half_a_body, Impatient.receive_timeout_s),
    (send_a_body_of_many_pieces, Impatient.body_timeout_s),
    (stay_idle, Impatient.keep_alive_timeout_s),
    (stay_idle_with_blank_lines, Impatient.keep_alive_timeout_s),
]


@pytest.mark.parametrize(("behave", "expected_s"), LATE)
def test_a_late_peer_is_dropped_on_time(
    behave: Callable[[socket.socket], None], expected_s: float, impatient_address: tuple[str, int]
) -> None:
    with connect(impatient_address) as client:
        started_at = time.monotonic()
        with contextlib.suppress(ConnectionError):
            behave(client)
        waited_s = time.monotonic() - started_at

    assert expected_s - 0.05 <= waited_s <= expected_s + 2


def test_a_body_may_take_long_while_it_keeps_coming(impatient_address: tuple[str, int]) -> None:
    body = [b"1\r\na\r\n"] * 5

    with connect(impatient_address) as client:
        client.sendall(CHUNKED)
        client.settimeout(0.15)
        for piece in body:
            client.sendall(piece)
            with pytest.raises(TimeoutError):
                client.recv(1)
        client.settimeout(5)
        client.sendall(b"0\r\n\r\n" + LAST)
        assert b"/echo 0 5" in read_to_end(client)


@pytest.mark.parametrize(
    "field", [(b"x-a", b"b\r\nx-c: d"), (b"x-a", b"b\x01"), (b"x-a", b"\x00"), (b"x a", b"b")]
)
def test_an_answer_with_a_field_that_is_none_is_not_sent(field: tuple[bytes, bytes]) -> None:
    async def bad(_scope: Any, _receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [field]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    with serving(StrictHttpProtocol, bad) as bound:
        assert exchange(bound, GOOD) == b""


BYTES = st.one_of(st.binary(max_size=3), st.sampled_from([b"", b"a", b"a b", b"\t\xe9", b"\r\n"]))


@given(fields=st.lists(st.tuples(BYTES, BYTES), max_size=3))
def test_a_head_has_the_fields_that_it_was_given_or_is_none(
    fields: list[tuple[bytes, bytes]],
) -> None:
    field = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*")
    if all(field.fullmatch(b"%b: %b" % each) and b":" not in each[0] for each in fields):
        written = b"".join(b"%b: %b\r\n" % each for each in fields)
        assert head_of(200, fields) == b"HTTP/1.1 200 OK\r\n" + written + b"\r\n"
    else:
        with pytest.raises(RuntimeError):
            head_of(200, fields)


def test_a_server_waits_for_no_request_that_is_over() -> None:
    """Answered, not answered by its application, refused before that began, and left."""
    waited_for: list[set[asyncio.Task[None]]] = []

    class Watched(StrictHttpProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            waited_for.append(self.tasks)
            super().connection_made(transport)

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ValueError(scope["path"])
        await app(scope, receive, send)

    with serving(Watched, fails) as bound:
        assert statuses(exchange(bound, GOOD + LAST)) == [200, 200]
        assert statuses(exchange(bound, head(target=b"/fails"))) == [500]
        assert statuses(exchange(bound, CHUNKED + b"no length\r\n")) == [400]
        with connect(bound) as client:
            client.sendall(CHUNKED)
        until = time.monotonic() + 5
        while waited_for[0] and time.monotonic() < until:
            time.sleep(0.01)
        left = len(waited_for[0])
        waited_for[0].clear()  # else the server would not end here, either

    assert (len(waited_for), left) == (4, 0)

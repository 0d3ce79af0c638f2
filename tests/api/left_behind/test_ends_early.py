"""What a connection leaves that ends before its time: nothing, whoever ended it."""

import socket
import struct
from collections.abc import Iterator
from typing import Final

import pytest

from tests.api.left_behind.service import A_FEW, World, ask_anew, left_by, world_on
from tests.api.server.serving import HOST, connect
from tests.conftest import catch_up, new_database
from tests.raw_http import request
from tests.turns import by_turns

_POST: Final = b"POST /scim-token HTTP/1.1\r\n" + HOST
_JSON: Final = b"Content-Type: application/json\r\n"
REFUSED: Final = {
    "no HTTP": (400, b"GARBAGE\r\n\r\n"),
    "two lengths": (400, _POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a proxy's method": (400, b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a target that is too long": (414, b"GET /%b HTTP/1.1\r\n%b\r\n" % (b"y" * 80_000, HOST)),
    "a head that is too large": (431, b"GET / HTTP/1.1\r\n%bx: %b\r\n\r\n" % (HOST, b"y" * 80_000)),
    "a chunk that is none": (400, _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a body that is too large": (
        413,
        _POST + b"AUTH" + _JSON + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
    ),
    "a body of another type": (
        415,
        _POST + b"AUTHContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    ),
    "a body that is no JSON": (400, _POST + b"AUTH" + _JSON + b"Content-Length: 1\r\n\r\nx"),
    "a key that is none": (
        400,
        _POST + b"AUTHIdempotency-Key: \xff\r\n" + _JSON + b"Content-Length: 2\r\n\r\n{}",
    ),
    "a health check": (200, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"),
}
LEFT: Final = {
    "half a head": b"GET / HT",
    "half a body": _POST + b"AUTH" + _JSON + b'Content-Length: 1000\r\n\r\n{"team',
    "half a form": b"POST /console/sign-in HTTP/1.1\r\n"
    + HOST
    + b"Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\ntok",
    "a page": b"GET /scim-token HTTP/1.1\r\n" + HOST + b"AUTH\r\n",
    "five pages at once": (b"GET /events HTTP/1.1\r\n" + HOST + b"AUTH\r\n") * 5,
    "a feed that waits": b"GET /events?after=3&wait=20 HTTP/1.1\r\n" + HOST + b"AUTH\r\n",
    "an export": b"GET /audit?format=ndjson HTTP/1.1\r\n" + HOST + b"AUTH\r\n",
}


@pytest.fixture(scope="module")
def world(server: str) -> Iterator[World]:
    with new_database(server) as database, world_on(database) as made:
        catch_up(database)
        yield made


def by_admin(world: World, question: bytes) -> bytes:
    return question.replace(b"AUTH", f"Authorization: Bearer {world.secrets['admin']}\r\n".encode())


@pytest.mark.parametrize("refused", by_turns(REFUSED, one_of=3))
def test_a_connection_that_ends_behind_its_answer(world: World, refused: str) -> None:
    status, question = REFUSED[refused]
    asked = by_admin(world, question)
    answers: set[int] = set()
    left = left_by(lambda: answers.add(ask_anew(world, asked)))
    assert answers == {status}
    assert left.to_collector < A_FEW


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("left", by_turns(LEFT, one_of=3))
def test_a_client_that_leaves(world: World, left: str, *, is_reset: bool) -> None:
    asked = by_admin(world, LEFT[left])
    health = request("GET", "/healthz")

    def leave() -> None:
        with connect(world.address) as client:
            client.sendall(asked)
            ask_anew(world, health)  # the service has had its turn
            if is_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert left_by(leave).to_collector < A_FEW

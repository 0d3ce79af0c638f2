"""What a request leaves that goes on to the SCIM service, whatever that does: nothing."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import pytest

from tests.api.left_behind.service import A_FEW, World, ask_anew, left_by, world_on
from tests.api.server.serving import connect
from tests.conftest import new_database
from tests.raw_http import request
from tests.turns import by_turns

TIMES: Final = 6
KEPT: Final = 20
"""Objects of one exchange that may stay, such as those of a connection that is kept."""
_OK: Final = b"HTTP/1.1 200 OK\r\n"
SAYS: Final = {
    "an answer": _OK + b"content-length: 2\r\n\r\n{}",
    "an answer and more": (_OK + b"content-length: 2\r\n\r\n{}") * 2,
    "an answer that is early": b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n",
    "a status that is none": b"HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 No\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "no HTTP": b"garbage garbage\r\n\r\n",
    "a head that is too long": _OK + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    "half of it": _OK + b"content-length: 20000\r\n\r\n" + b"x" * 10_000,
    "a chunk and no end": _OK + b"transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    "nothing": b"",
}
ENDS: Final = ("stays", "hangs up", "resets")
BODIES: Final = {
    "no body": b"\r\n",
    "a body": b"Content-Length: 20000\r\n\r\n" + b"b" * 20_000,
    "a body in chunks": b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n%b\r\n0\r\n\r\n"
    % (b"b" * 20_000),
}
HALF: Final = b"Content-Length: 20000\r\n\r\n" + b"b" * 10_000


class Upstream:
    """Says the same to every request, then ends the connection or does not; leaves nothing itself.

    A thread for each connection: an event loop of its own would be measured, too.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.says, self.ends = b"", "stays"
        self.was_asked = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    head += piece
                self.was_asked.set()
                connection.sendall(self.says)
                if self.ends == "resets":
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if self.ends != "stays":
                    return


class Proxied(NamedTuple):
    """A service in front of an upstream."""

    world: World
    upstream: Upstream

    def question(self, body: bytes) -> bytes:
        """A use that goes on. body: with the fields that frame it."""
        head = request(
            "POST", "/scim/v2/Users", authorization=self.world.secrets["provider"]
        ).removesuffix(b"\r\n")
        return head + body


@pytest.fixture(scope="module")
def proxied(server: str) -> Iterator[Proxied]:
    upstream = Upstream()
    url = f"http://127.0.0.1:{upstream.listener.getsockname()[1]}/scim"
    waits = {"upstream_head_timeout_s": 0.2, "upstream_idle_timeout_s": 0.2}
    rates = {"rate_per_source": 0, "rate_per_token": 0}
    with (
        upstream.listener,
        new_database(server) as database,
        world_on(database, scim_upstream_url=url, **waits, **rates) as world,
    ):
        yield Proxied(world, upstream)
        upstream.listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("says", by_turns(SAYS, one_of=len(SAYS)))
def test_whatever_the_upstream_says(proxied: Proxied, says: str) -> None:
    for proxied.upstream.ends in ENDS:
        for name, body in BODIES.items():
            proxied.upstream.says = SAYS[says]
            question = proxied.question(body)
            left = left_by(lambda: ask_anew(proxied.world, question), times=TIMES)  # noqa: B023
            assert left.to_collector < A_FEW, (proxied.upstream.ends, name)
            assert left.kept < TIMES * KEPT, (proxied.upstream.ends, name)


@pytest.mark.parametrize("body", [BODIES["no body"], HALF], ids=["whole", "half"])
@pytest.mark.parametrize("says", by_turns(["an answer", "half of it", "nothing"], one_of=3))
def test_a_client_that_leaves(proxied: Proxied, says: str, body: bytes) -> None:
    proxied.upstream.says, proxied.upstream.ends = SAYS[says], "stays"
    question, health = proxied.question(body), request("GET", "/healthz")

    def leave() -> None:
        proxied.upstream.was_asked.clear()
        with connect(proxied.world.address) as client:
            client.sendall(question)
            assert proxied.upstream.was_asked.wait(5)
            ask_anew(proxied.world, health)  # the service has had its turn

    assert left_by(leave, times=TIMES).to_collector < A_FEW

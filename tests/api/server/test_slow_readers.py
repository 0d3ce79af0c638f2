"""A14: who takes nothing of an answer is dropped, who takes little is not,
and neither costs much memory.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, ClassVar, Final

import pytest

from api.server.listening import UNSENT_BYTES, bind
from api.server.protocol import StrictHttpProtocol
from tests.api.server.serving import head, read_to_end, serving, statuses

PIECE: Final = b"x" * 65536
WHOLE: Final = 4 * 1024 * 1024


class Impatient(StrictHttpProtocol):
    receive_timeout_s: ClassVar[float] = 0.2
    send_timeout_s: ClassVar[float] = 1.0
    keep_alive_timeout_s: ClassVar[float] = 0.3
    linger_timeout_s: ClassVar[float] = 0.2


class Sender:
    """Answers without end, or with one large piece;
    tells how much it got rid of and when it was left.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.left_at: float | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/whole":
            headers = [(b"content-length", b"%d" % WHOLE)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * WHOLE})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leaving = asyncio.create_task(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.sent += len(PIECE)
            await asyncio.sleep(0)
        self.left_at = time.monotonic()


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def address(sender: Sender) -> Iterator[tuple[str, int]]:
    with serving(Impatient, sender) as bound:
        yield bound


def connect(address: tuple[str, int]) -> "closing[socket.socket]":
    """A client that the kernel keeps little for."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.settimeout(10)
    client.connect(address)
    return closing(client)


def until(sender: Sender) -> float:
    deadline = time.monotonic() + 10
    while sender.left_at is None:
        assert time.monotonic() < deadline, "it was not dropped"
        time.sleep(0.01)
    return sender.left_at


def test_a_reader_that_takes_nothing_is_dropped(address: tuple[str, int], sender: Sender) -> None:
    with connect(address) as client:
        began = time.monotonic()
        client.sendall(head(target=b"/endless"))
        took_s = until(sender) - began

        assert Impatient.send_timeout_s <= took_s < Impatient.send_timeout_s + 3
        assert not read_to_end(client).endswith(b"0\r\n\r\n"), (
            "what stops short must not look whole"
        )


def test_a_reader_that_stops_in_the_middle_is_dropped(
    address: tuple[str, int], sender: Sender
) -> None:
    with connect(address) as client:
        client.sendall(head(target=b"/endless"))
        for _ in range(100):
            client.recv(65536)
        stopped = time.monotonic()
        assert until(sender) - stopped < Impatient.send_timeout_s + 3


def test_a_slow_but_steady_reader_is_not_cut(address: tuple[str, int], sender: Sender) -> None:
    """Each time it takes less than the loop holds back,
    for several times what one that stands still gets.
    """
    with connect(address) as client:
        client.sendall(head(target=b"/endless"))
        deadline = time.monotonic() + 4 * Impatient.send_timeout_s
        while time.monotonic() < deadline:
            assert client.recv(4096)
            time.sleep(0.1)
        assert sender.left_at is None


@pytest.mark.parametrize("ends", [b"Connection: close", b"Connection: keep-alive"])
def test_a_slow_reader_gets_the_whole_of_an_answer_that_is_long_complete(
    ends: bytes, address: tuple[str, int]
) -> None:
    """The keep-alive's time, and that of a lingering close, begin when it has taken it."""
    with connect(address) as client:
        client.sendall(head(ends, target=b"/whole"))
        received = b""
        deadline = time.monotonic() + 5 * Impatient.keep_alive_timeout_s
        while time.monotonic() < deadline:
            received += client.recv(20_000)
            time.sleep(0.05)
        received += read_to_end(client)

    assert statuses(received) == [200]
    assert len(received.partition(b"\r\n\r\n")[2]) == WHOLE


def test_little_is_held_for_a_reader_that_takes_nothing(sender: Sender) -> None:
    """By the kernel too, which by default takes up to 4 MB."""
    listener = bind("127.0.0.1", 0)
    listener.listen()
    with serving(StrictHttpProtocol, sender, listener) as address, connect(address) as client:
        client.sendall(head(target=b"/endless"))
        before = -1
        while sender.sent != before:
            before = sender.sent
            time.sleep(0.3)
        assert 0 < sender.sent <= UNSENT_BYTES + 5 * len(PIECE)

"""One exchange of HTTP/1.1 as bytes, at both of its ends, for what is compared byte for byte."""

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, Final, NamedTuple

RESETS: Final = struct.pack("ii", 1, 0)
Fields = tuple[tuple[bytes, bytes], ...]


class Message(NamedTuple):
    """A request or an answer. start: its first line. is_whole: its own end has come."""

    start: bytes
    fields: Fields
    body: bytes
    is_whole: bool

    def without(self, *names: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Its fields but for these, and but for those that begin so where a `-` is last."""
        begins = tuple(name for name in names if name.endswith(b"-"))
        return sorted(
            (name, value)
            for name, value in self.fields
            if name not in names and not name.startswith(begins or b"\n")
        )


class Recorder(ThreadingTCPServer):
    """An upstream that keeps what it heard and answers what it was told to.

    answer: bytes, behind which it hangs up. is_reset: in a way that is no end.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[Message] = []
        self.answer = b""
        self.is_reset = False

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Handler(BaseRequestHandler):
    server: Recorder

    def handle(self) -> None:
        peer: socket.socket = self.request
        peer.settimeout(5)
        with suppress(OSError):
            reader = _Reader(peer)
            heard = reader.message(is_request=True)
            self.server.heard.append(heard)
            peer.sendall(self.server.answer)
        if self.server.is_reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            peer.close()  # before anybody shuts it down in order


@contextmanager
def recorder() -> Iterator[Recorder]:
    """One for the block."""
    with Recorder() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def ask(port: int, request: bytes, *, method: str) -> Message:
    """The answer to a request that ends its connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        with suppress(ConnectionError):
            peer.sendall(request)
        return _Reader(peer).message(is_request=False, is_for_head=method == "HEAD")


@dataclass
class _Reader:
    peer: socket.socket
    held: bytes = field(default=b"")
    is_ended: bool = False
    is_reset: bool = False

    def message(self, *, is_request: bool, is_for_head: bool = False) -> Message:
        """Read one; interim answers are passed over."""
        start = b"HTTP/1.1 100"
        while start.startswith(b"HTTP/1.1 10"):
            start, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        fields = tuple(
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        )
        named: dict[bytes, bytes] = dict(fields)
        if is_for_head or start[9:12] in {b"204", b"304"}:
            return Message(start, fields, b"", True)
        if named.get(b"transfer-encoding", b"").lower() == b"chunked":
            body, is_whole = self._chunked()
        elif is_request or b"content-length" in named:
            length = int(named.get(b"content-length", b"0"))
            body = self._exactly(length)
            is_whole = len(body) == length
        else:
            body = self._exactly(None)
            is_whole = not self.is_reset
        return Message(start, fields, body, is_whole)

    def _chunked(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            size = self._until(b"\r\n").partition(b";")[0]
            if not size:
                return body, False
            if int(size, 16) == 0:
                while self._until(b"\r\n"):
                    pass
                return body, True
            piece = self._exactly(int(size, 16))
            body += piece
            self._until(b"\r\n")

    def _until(self, end: bytes) -> bytes:
        while end not in self.held and self._read():
            pass
        found, _, self.held = self.held.partition(end)
        return found

    def _exactly(self, length: int | None) -> bytes:
        while (length is None or len(self.held) < length) and self._read():
            pass
        length = len(self.held) if length is None else length
        piece, self.held = self.held[:length], self.held[length:]
        return piece

    def _read(self) -> bool:
        try:
            piece: Any = self.peer.recv(65536)
        except ConnectionError:
            piece, self.is_reset = b"", True
        self.held += piece
        return bool(piece)

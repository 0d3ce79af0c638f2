"""What one response is written to, in place of the transport.

The head of a response goes out with the first piece of its body: one system call and one packet, not two. As
the ASGI specification has it (HTTP connection scope, Response Start); uvicorn writes the head at once.
"""

import asyncio
from typing import Protocol


class Connection(Protocol):
    """Whose response it is."""

    transport: asyncio.Transport

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""

    def end(self) -> None:
        """Close when all has been written."""


class HeldHead:
    """One response: its head comes first, then its body.

    is_alone: no body comes after the head. is_request_whole: told by the connection, once it is.
    It must not know the cycle that writes: the two would be garbage that only the collector finds, with
    every request, and that costs more than is saved here.
    """

    __slots__ = ("_connection", "_head", "_is_alone", "is_request_whole")

    def __init__(self, connection: Connection, *, is_alone: bool) -> None:
        self._connection = connection
        self._head: bytes | None = None
        self._is_alone = is_alone
        self.is_request_whole = False

    def write(self, data: bytes) -> None:
        if self._head is not None:
            self._connection.transport.write(self._head + data if self._head else data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 100 "):
            self._connection.transport.write(data)
        else:
            self._head = data if self.is_request_whole else _announcing_the_end(data)
            if self._is_alone:
                self.write(b"")

    def is_closing(self) -> bool:
        return self._connection.is_closing()

    def close(self) -> None:
        """Close when all has been written, also a head that no body came after."""
        if self._head:
            self._connection.transport.write(self._head)
            self._head = b""
        self._connection.end()


def _announcing_the_end(head: bytes) -> bytes:
    """The head of an answer that comes before its request is whole, after which the connection ends.

    An answer of unknown length may flow while the request still does, and common clients hang up at once on
    that word; its connection ends all the same unless the request becomes whole first.
    """
    if b"\r\ntransfer-encoding: chunked\r\n" in head or b"\r\nconnection: close\r\n" in head:
        return head
    return head[:-2] + b"connection: close\r\n\r\n"

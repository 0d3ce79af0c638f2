"""The head of a response goes out with the first piece of its body: one system call and one packet, not two.

As the ASGI specification has it (HTTP connection scope, Response Start); uvicorn writes the head at once.
"""

import asyncio


class HeldHead:
    """What is written to instead of the transport, for one response: its head comes first, then its body.

    It must not know the cycle that writes: the two would be garbage that only the collector finds, with
    every request, and that costs more than is saved here.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
        else:
            self._transport.write(self._head + data if self._head else data)
            self._head = b""

    def close(self) -> None:
        """Close when all has been written, also a head that no body came after."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

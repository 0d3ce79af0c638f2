"""Measure how much of an answer the peer has not acknowledged, and since when.

What the event loop still holds is not all: the kernel takes up to 4 MB for a peer, and a slow one
may need minutes before there is room again. So the kernel is asked, too, how much the peer has not
acknowledged.
"""

import asyncio
import struct
import sys
import termios
from fcntl import ioctl


class Unsent:
    """Of one connection.

    since: when (loop time) the peer last took something, as far as was looked.
    """

    def __init__(self, transport: asyncio.Transport, *, since: float) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._bytes = 0
        self.since = since

    def is_any(self, now: float) -> bool:
        """Look again."""
        unsent = self._transport.get_write_buffer_size() + self._unacknowledged()
        if unsent != self._bytes:
            self._bytes, self.since = unsent, now
        return unsent > 0

    def _unacknowledged(self) -> int:
        if sys.platform != "linux" or self._socket is None:
            return 0
        try:
            answer = ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ, of tcp(7)
        except OSError:  # it is closed, or no TCP socket
            return 0
        unacknowledged: int = struct.unpack("i", answer)[0]
        return unacknowledged

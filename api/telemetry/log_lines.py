"""Standard error of a service: whole lines, and no more of them than their reader takes.

A reader may stand still (a stopped `less`, a full disk of whatever collects logs, Docker's blocking
mode): a write to its pipe then waits for as long as it does, and with it the event loop, the
supervisor, and every request. What is logged says what happens, and is no part of it.
"""

import io
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Final, TypeAlias

WAIT_S: Final = 0.1
"""For a reader that is only busy. The event loop stands still meanwhile."""
HURRY_S: Final = 2.0
"""After a wait in vain, for how long nothing is waited for."""

_Send: TypeAlias = Callable[[memoryview], int]
"""Returns how many bytes were taken. Raises BlockingIOError instead of waiting, and OSError."""


class LogLines(io.TextIOBase):
    """A text stream to a descriptor: each line is written at once and whole, so that lines of
    several processes stay lines, or left out.

    descriptor: stays open, and is set to no other mode: others write to it, too. left_out: how
    many lines since the last one that was taken.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.left_out = 0
        self._descriptor = descriptor
        self._send, self._asked = _without_waiting(descriptor)
        self._has_room = select.poll()
        self._has_room.register(self._asked, select.POLLOUT)
        self._lock = Lock()
        self._begun = ""
        self._is_cut = False
        self._in_a_hurry_until = 0.0

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether somebody looks at it."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Leaves the descriptor open."""
        if not self.closed and self._asked != self._descriptor:
            os.close(self._asked)
        super().close()

    def write(self, text: str, /) -> int:
        """Never fails. What is no whole line yet is kept until it is."""
        with self._lock:
            lines, end, rest = text.rpartition("\n")
            if end:
                self._put((self._begun + lines + end).encode(errors="backslashreplace"))
                self._begun = ""
            self._begun += rest
        return len(text)

    def _put(self, lines: bytes) -> None:
        now = monotonic()
        ends_at = now + (WAIT_S if now >= self._in_a_hurry_until else 0)
        rest = memoryview(b"\n" + lines if self._is_cut else lines)
        try:
            while rest:
                try:
                    rest = rest[self._send(rest) :]
                    self._is_cut = bool(rest)
                except BlockingIOError:
                    left_s = ends_at - monotonic()
                    if left_s <= 0:
                        raise
                    self._has_room.poll(left_s * 1000)
        except BlockingIOError:
            self._in_a_hurry_until = monotonic() + HURRY_S
            self.left_out += 1
        except OSError:  # nobody reads any more, or a disk is full
            self.left_out += 1
        else:
            self.left_out = 0


def log_without_waiting() -> None:
    """From now on, what this process says on standard error."""
    if sys.stderr is not None:  # where it is closed
        with suppress(io.UnsupportedOperation):
            sys.stderr = LogLines(sys.stderr.fileno())


def _without_waiting(descriptor: int) -> tuple[_Send, int]:
    """How to write to a descriptor that others share, and what to ask whether it has room.

    Not by O_NONBLOCK on it: that would be everybody's who has it, such as the shell's.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):  # journald's
        return lambda data: _send_to_socket(descriptor, data), descriptor
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        try:
            # On Linux, the same pipe or terminal, opened once more.
            again = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            return _where_there_is_room(descriptor), descriptor
        return lambda data: os.write(again, data), again
    return lambda data: os.write(descriptor, data), descriptor


def _send_to_socket(descriptor: int, data: memoryview) -> int:
    connection = socket.socket(fileno=descriptor)
    try:
        return connection.send(data, socket.MSG_DONTWAIT)
    finally:
        connection.detach()


def _where_there_is_room(descriptor: int) -> _Send:
    """For want of better: another process may take the room between the question and the write."""
    has_room = select.poll()
    has_room.register(descriptor, select.POLLOUT)

    def send(data: memoryview) -> int:
        if not has_room.poll(0):
            raise BlockingIOError
        return os.write(descriptor, data[: select.PIPE_BUF])

    return send

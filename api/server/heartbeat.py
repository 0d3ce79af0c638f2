"""Detect a child process that exists and no longer answers (SIGSTOP, a hung event loop).

A child that is ready writes to a pipe once a second, from the loop that does its work. One that did
so and has been silent for 5 s is killed, and replaced like any other that died; so is one that does
not get ready.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

EVERY_S = 1.0
SILENT_S = 5.0
STARTING_S = 60.0
"""Far more than a start takes, also on a slow machine."""


class Pulse:
    """The supervisor's side, of one program. beat_fd: what its processes inherit and write to."""

    def __init__(self) -> None:
        self._read_fd, self.beat_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.beat_fd, False)
        self._silent_at = 0.0

    def expect(self, now: float) -> None:
        """A new process starts; what an earlier one wrote is not its."""
        self._has_beaten()
        self._silent_at = now + STARTING_S

    def excuse(self, now: float) -> None:
        """Nobody looked for a while: the machine may have stood still, and the child with it."""
        self._silent_at = max(self._silent_at, now + SILENT_S)

    def is_silent(self, now: float) -> bool:
        """Look again."""
        if self._has_beaten():
            self._silent_at = now + SILENT_S
        return now > self._silent_at

    def _has_beaten(self) -> bool:
        with suppress(BlockingIOError):
            return bool(os.read(self._read_fd, 65536))
        return False


def beat(beat_fd: int) -> None:
    """Tell that this process goes on."""
    with suppress(BlockingIOError):  # the supervisor stands still, and has enough to read
        os.write(beat_fd, b".")


async def keep_beating(beat_fd: int) -> None:
    """From the event loop, for as long as it runs."""
    while True:
        beat(beat_fd)
        await asyncio.sleep(EVERY_S)


def keep_beating_aside(beat_fd: int, *, goes_on: Callable[[], bool]) -> None:
    """From a thread, for a process whose work may rightly wait longer than that
    for the database. goes_on: whether the rest of its work does, without which it is of no use.
    """

    def go_on() -> None:
        while True:
            if goes_on():
                beat(beat_fd)
            time.sleep(EVERY_S)

    threading.Thread(target=go_on, daemon=True).start()

"""Wake the runner through a pipe: an event was appended, or a query waits.

An economy and nothing more: the runner looks of its own accord, too. So what finds the pipe full is
left out.
"""

import os
import select
import time
from contextlib import suppress
from typing import Final

_APPENDED: Final = b"a"
_AWAITED: Final = b"w"
_CAPACITY: Final = 65_536  # of a pipe, pipe(7)


class Waker:
    """The end of those who append and read. fd: None where no runner is to be told."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_blocking(fd, False)

    def appended(self) -> None:
        """There is something to apply."""
        self._tell(_APPENDED)

    def awaited(self) -> None:
        """Somebody waits for a view."""
        self._tell(_AWAITED)

    def _tell(self, what: bytes) -> None:
        if self._fd is not None:
            with suppress(BlockingIOError):
                os.write(self._fd, what)


NOBODY: Final = Waker()


class WakeUps:
    """The end of the runner. fd: None where nobody tells it anything."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is told, but not for longer; whether somebody waits for a view."""
        if self._fd is None:
            time.sleep(timeout_s)
            return False
        return bool(select.select([self._fd], [], [], timeout_s)[0]) and _AWAITED in os.read(
            self._fd, _CAPACITY
        )

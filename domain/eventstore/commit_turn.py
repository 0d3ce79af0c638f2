"""Take turns to commit among the processes of one deployment on one machine.

Group commit makes good batches by waiting for the one before. Several processes that each wait for
their own only would send several times as many, several times as small, which then queue for the
append lock.

An economy and nothing more: the append lock keeps the order, and a turn that does not come is not
waited for.
"""

import asyncio
import os
import sys
from contextlib import suppress
from typing import Final

PATIENCE_S: Final = 0.02
"""A batch that waited so long goes without the turn, and waits for the lock instead."""

LOST_AFTER_S: Final = 2.0
"""Whoever has it passes it on sooner, or has died with it."""


def new_commit_turn() -> int | None:
    """An eventfd with the turn in it, for `SharedCommitTurn`; None where the kernel has none."""
    return os.eventfd(1, os.EFD_NONBLOCK) if sys.platform == "linux" else None


class CommitTurn:
    """Of a process that shares its machine with no other: always its own."""

    async def take(self) -> None:
        """Wait for the turn, but not for long."""

    def pass_on(self) -> None:
        """Let another batch go, if the turn is ours."""


ALONE: Final = CommitTurn()


class SharedCommitTurn(CommitTurn):
    """A process's part in it. fd: of `new_commit_turn`, shared by all of them.

    Reading an eventfd takes whatever was put in: two turns, should it come to that, become one
    again.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_ours = False
        self._missed_since: float | None = None

    async def take(self) -> None:
        await asyncio.sleep(0)  # whoever just passed it on lets the others be quicker
        if not self._is_taken():
            await self._wait(asyncio.get_running_loop())

    def pass_on(self) -> None:
        if self._is_ours:
            self._is_ours = False
            os.eventfd_write(self._fd, 1)

    def _is_taken(self) -> bool:
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
            self._is_ours = True
            self._missed_since = None
        return self._is_ours

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        came: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(self._fd, self._look, came)
        patience = loop.call_later(PATIENCE_S, _end, came)
        try:
            if await came:
                return
        finally:
            patience.cancel()
            loop.remove_reader(self._fd)
        now = loop.time()
        if self._missed_since is None:
            self._missed_since = now
        elif now - self._missed_since > LOST_AFTER_S:
            self._is_ours = True

    def _look(self, came: "asyncio.Future[bool]") -> None:
        if not came.done() and self._is_taken():
            came.set_result(True)


def _end(came: "asyncio.Future[bool]") -> None:
    if not came.done():
        came.set_result(False)

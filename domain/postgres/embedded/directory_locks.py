"""Locks on a data directory: shared by its users, exclusive to start or stop its server.

    lock    held alone while something is started, stopped or made
    users   held in common by every process that uses what was started; who leaves last ends it

Both are for the directory's owner alone: whoever can open a file can lock it, and would keep us out
for good.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_LOOK_EVERY_S: Final = 0.01


class DirectoryIsBusy(Exception):
    """Another process held the lock for longer than we wait."""


class DirectoryLocks:
    """The locks of one directory, which exists. One object is one user."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: int | None = None
        self._using: int | None = None

    @contextmanager
    def alone(self, *, within_s: float) -> Iterator[None]:
        """Of several processes, the first acts, the others find it done.

        Raises DirectoryIsBusy, OSError.
        """
        deadline = time.monotonic() + within_s
        while (taken := self._take_lock()) is None:
            if time.monotonic() > deadline:
                raise DirectoryIsBusy
            time.sleep(_LOOK_EVERY_S)
        self._held = taken
        try:
            yield
        finally:
            self._held = None
            os.close(taken)

    @property
    def inheritable(self) -> tuple[int, ...]:
        """Descriptors for a child that must not be overtaken:
        the lock is held until it has ended, too.
        """
        return () if self._held is None else (self._held,)

    def join(self) -> None:
        """Become a user, if not one already. Only while alone."""
        assert self._held is not None
        if self._using is None:
            self._using = self._open("users")
            fcntl.flock(self._using, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Stop being a user; whether there is no other. Only while alone."""
        assert self._held is not None
        using, self._using = self._using, None
        users = self._open("users") if using is None else using
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(users)

    def _take_lock(self) -> int | None:
        taken = self._open("lock")
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the file as left over: then a second one has the name, and
            # its lock.
            if os.path.samestat(os.fstat(taken), (self._directory / "lock").lstat()):
                return taken
        os.close(taken)
        return None

    def _open(self, name: str) -> int:
        opened = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            found, owner = os.fstat(opened), self._directory.stat()
            if os.geteuid() in {
                0,
                found.st_uid,
            }:  # also those that an earlier release left open to all
                os.fchmod(opened, 0o600)
                if os.geteuid() == 0 and found.st_uid != owner.st_uid:
                    # root, in the directory of a user
                    os.fchown(opened, owner.st_uid, owner.st_gid)
        except BaseException:
            os.close(opened)
            raise
        return opened

"""The account that the embedded server runs as, and how its programs are run as that."""

import grp
import os
import pwd
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from domain.postgres.embedded.error import EmbeddedPostgresError

_ACCOUNTS: Final = range(60706, 61184)
"""Of these the first that is in no passwd or group file. Debian and systemd give none of them to
anybody (systemd, UIDS-GIDS.md), and they lie within the 65536 that a container usually has."""

# Nothing of the service's own environment: it may hold secrets, and PG* variables would change the
# server. A backend keeps up to 16 MB that it freed: otherwise glibc gives memory back and takes it
# again with every page of an export.
_KEPT: Final = str(16 << 20)
_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
    "MALLOC_TRIM_THRESHOLD_": _KEPT,
    "MALLOC_MMAP_THRESHOLD_": _KEPT,
}


class ServerAccount:
    """Whom the data of a cluster belong to, and who runs its programs. data: its directory."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def ids(self) -> tuple[int, int]:
        """User and group of the server: ourselves;
        as root whoever owns the data, else an account of its own.

        Never `nobody`: whatever else runs as that would be the database's superuser.
        """
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        with suppress(FileNotFoundError):
            found = self._data.stat()
            if found.st_uid != 0:
                return found.st_uid, found.st_gid
        return _own_account()

    def options(self, user: int | None = None) -> dict[str, Any]:
        """How subprocess starts a program of the server: PostgreSQL refuses to run as root."""
        # A session of its own: Ctrl-C in the terminal must not end the database before the service.
        detached = {
            "cwd": "/",
            "env": _ENVIRONMENT,
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        if os.geteuid() != 0:
            return detached
        owner, group = self.ids()
        return {
            **detached,
            "user": owner if user is None else user,
            "group": group,
            "extra_groups": [],
        }

    def run(self, *command: Path | str, within_s: float = 10.0) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs to its end. Raises OSError, SubprocessError."""
        # Not untrusted input: our own programs with our own paths.
        return subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
            **self.options(),
        )

    def take_from_nobody(self) -> None:
        """As root, a cluster of an earlier release: then it was everybody's who is `nobody`."""
        if os.geteuid() == 0:
            with suppress(FileNotFoundError):
                if self._data.stat().st_uid in _nobodies():
                    give(self._data, *_own_account())


def name_of(user: int) -> str:
    """The user's name, or the number where no file names it."""
    with suppress(KeyError):
        return repr(pwd.getpwuid(user).pw_name)
    return str(user)


def _own_account() -> tuple[int, int]:
    """A user and a group that no file names. Raises EmbeddedPostgresError."""
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    for number in _ACCOUNTS:
        if number not in taken:
            return number, number
    raise EmbeddedPostgresError("No account is free for PostgreSQL: run this as an ordinary user.")


def _nobodies() -> set[int]:
    """The kernel's `nobody`, and the passwd file's."""
    with suppress(KeyError):
        return {65534, pwd.getpwnam("nobody").pw_uid}
    return {65534}


def known_user() -> int:
    """One that the passwd file names, `nobody` where it can be: initdb works for no other."""
    users = {entry.pw_uid for entry in pwd.getpwall()} - {0}
    return next(iter(sorted(users & _nobodies()) or sorted(users, reverse=True)), 65534)


def give(directory: Path, user: int, group: int) -> None:
    """Change the owner of all that is in a directory, and of the directory last:
    cut short, it is done again.

    Not through links, and from open directory to open directory: whoever owns it yet may plant
    them.
    """
    for *_, directories, files, at in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, user, group, dir_fd=at, follow_symlinks=False)
    os.chown(directory, user, group)

"""A place like a container's: a read-only tree of its own, and uid 10001 without any privilege.

A mount namespace and chroot make it, so it takes root. What a container has beyond that (its own
network and processes, seccomp) is not there.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

UID: Final = 10001
_OF_THE_SYSTEM: Final = (
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "etc/ssl",
    "etc/alternatives",
)
_OF_ETC: Final = ("ld.so.cache", "nsswitch.conf", "resolv.conf", "hosts", "localtime")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_SHELLS: Final = ("sh", "dash", "bash", "rbash")
_AS_ROOT: Final = () if os.geteuid() == 0 else ("sudo", "-n")
_WITHOUT_PRIVILEGE: Final = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all", "--bounding-set=-all"),
)


class Room(NamedTuple):
    """A tree to run commands in.

    shown: paths in it, and what is seen there, read-only; they win over the system's directories.
    writable: the same, to be written to. scratch: directories that begin empty. is_named: whether
    the passwd file has its user. has_shell: whether there is one.
    """

    shown: Mapping[str, Path] = {}
    writable: Mapping[str, Path] = {}
    scratch: Sequence[str] = ()
    is_named: bool = True
    has_shell: bool = True

    def command(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: str = "/",
        environment: Mapping[str, str] = {},
    ) -> list[str]:
        """The command that runs `argv` in the room, as the process that is started.

        environment: all that it gets, beside a PATH.
        """
        make = "\n".join(["set -e", 'R="$0"', *self._mounts(), 'exec chroot "$R" "$@"'])
        given = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environment}
        variables = [f"{name}={value}" for name, value in given.items()]
        inside = [*_WITHOUT_PRIVILEGE, "env", "-i", "-C", cwd, *variables, *map(str, argv)]
        unshare = ["unshare", "--mount", "--propagation", "private", "bash", "-c", make]
        return [*_AS_ROOT, *unshare, str(_mount_point()), *inside]

    def _mounts(self) -> Iterator[str]:
        yield 'mount -t tmpfs -o mode=755 none "$R"'
        yield from _system()
        yield from self._etc()
        yield 'mkdir -p "$R/dev/shm" "$R/proc" && mount --rbind /proc "$R/proc"'
        for device in _DEVICES:
            yield from _bind(Path("/dev", device), f"/dev/{device}", is_writable=True)
        for path in ("/dev/shm", *self.scratch):
            yield f'mkdir -p "$R{path}" && mount -t tmpfs -o mode=1777 none "$R{path}"'
        for path, source in self.shown.items():
            yield from _bind(source, path)
        for path, source in self.writable.items():
            yield from _bind(source, path, is_writable=True)
        if not self.has_shell:
            for shell in _SHELLS:
                program = Path("/usr/bin", shell)
                if program.exists() and not program.is_symlink():
                    yield f'mount --bind /dev/null "$R{program}"'
        yield 'mount -o remount,ro "$R"'

    def _etc(self) -> Iterator[str]:
        for name in _OF_ETC:
            if Path("/etc", name).exists():
                yield f'cp -L "/etc/{name}" "$R/etc/{name}"'
        users = "root:x:0:0::/root:/bin/false\\n"
        if self.is_named:
            users += f"scim-ledger:x:{UID}:{UID}::/nonexistent:/bin/false\\n"
        yield f'printf "{users}" > "$R/etc/passwd"; : > "$R/etc/group"'


def _system() -> Iterator[str]:
    for name in _OF_THE_SYSTEM:
        source = Path("/", name)
        if source.is_symlink():
            yield f'ln -s {source.readlink()} "$R/{name}"'
        elif source.exists():
            yield from _bind(source, f"/{name}")


def _bind(source: Path, target: str, *, is_writable: bool = False) -> Iterator[str]:
    shown = shlex.quote(str(source))
    if source.is_dir():
        yield f'mkdir -p "$R{target}"'
    else:
        yield f'mkdir -p "$R{Path(target).parent}" && : > "$R{target}"'
    yield f'mount --bind {shown} "$R{target}"'
    if not is_writable:
        yield f'mount -o remount,bind,ro "$R{target}"'


def python_as_installed() -> Mapping[str, Path]:
    """This interpreter's own installation, where it is: in a home that may be closed to others."""
    base = Path(sys.base_prefix)
    return {} if base == Path("/usr") else {str(base): base}


def require_root() -> None:
    """Skip loudly where no room can be made; fail where a skip would hide that."""
    if subprocess.run([*_AS_ROOT, "true"], capture_output=True, check=False).returncode != 0:
        reason = "a room of its own takes root (mount namespaces, chroot)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _mount_point() -> Path:
    """One empty directory for all rooms: each has its own mount upon it."""
    point = Path(tempfile.gettempdir(), "scim-ledger-room")
    point.mkdir(exist_ok=True)
    return point

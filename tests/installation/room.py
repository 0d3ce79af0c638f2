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
from typing import Final, NamedTuple, Self

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
_USERS: Final = (
    "root:x:0:0::/root:/bin/false\\n"
    f"scim-ledger:x:{UID}:{UID}::/var/lib/scim-ledger:/usr/sbin/nologin\\n"
)
_HARDENED: Final = f"""
import ctypes, os, sys
libc, us, (made, is_made) = ctypes.CDLL(None), os.getpid(), os.pipe()
assert libc.prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
if (child := os.fork()) == 0:
    os.close(is_made)
    os.read(made, 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{{us}}/{{kind}}_map", "wb", buffering=0) as ids:
            ids.write(b"0 0 1\\n{UID} {UID} 1\\n")
    os._exit(0)
assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER
os.close(is_made)
assert os.waitpid(child, 0)[1] == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
_HOLD: Final = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    up = struct.pack("16sh", b"lo", 0x49)  # netdevice(7): IFF_UP | IFF_LOOPBACK | IFF_RUNNING
    fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
print(os.getpid(), flush=True)
sys.stdin.read()
"""
_WITHOUT_PRIVILEGE: Final = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all", "--bounding-set=-all"),
)


class Room(NamedTuple):
    """A tree to run commands in.

    shown: paths in it, and what is seen there, read-only; they win over the system's directories.
    writable: the same, to be written to. scratch: directories that begin empty. passwd: the file,
    unless it is one that has the user. has_shell: whether there is one. network: of its own, where
    `hosts` are names of this very machine; else the machine's. user: 0 for steps that are root's.
    is_hardened: other users are nobody, /proc tells of processes alone, and no memory becomes
    executable, as systemd has it with PrivateUsers=yes, ProcSubset=pid and
    MemoryDenyWriteExecute=yes. hides_processes: and of one's own alone, by ProtectProc=invisible.
    """

    shown: Mapping[str, Path] = {}
    writable: Mapping[str, Path] = {}
    scratch: Sequence[str] = ()
    passwd: Path | None = None
    has_shell: bool = True
    network: "Network | None" = None
    hosts: Sequence[str] = ()
    user: int = UID
    is_hardened: bool = False
    hides_processes: bool = False

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
        # a user namespace is made outside of a chroot, unshare(2)
        harden = f"python3 -c {shlex.quote(_HARDENED)}" if self.is_hardened else ""
        enter = f'exec {harden} chroot "$R" "$@"'
        make = "\n".join(["set -e", 'R="$0"', *self._mounts(), enter])
        given = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environment}
        variables = [f"{name}={value}" for name, value in given.items()]
        as_user = _WITHOUT_PRIVILEGE if self.user == UID else ()
        inside = [*as_user, "env", "-i", "-C", cwd, *variables, *map(str, argv)]
        unshare = ["unshare", "--mount", "--propagation", "private", "bash", "-c", make]
        joined = () if self.network is None else self.network.joined()
        return [*joined, *unshare, str(_mount_point()), *inside]

    def _mounts(self) -> Iterator[str]:
        yield 'mount -t tmpfs -o mode=755 none "$R"'
        yield from _system()
        yield from self._etc()
        yield 'mkdir -p "$R/dev/shm" "$R/proc"'
        if self.is_hardened:
            seen = "invisible" if self.hides_processes else "off"
            yield f'mount -t proc -o subset=pid,hidepid={seen} none "$R/proc"'
        else:
            yield 'mount --rbind /proc "$R/proc"'
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
        if self.hosts:
            yield f'echo "127.0.0.1 {" ".join(self.hosts)}" >> "$R/etc/hosts"'
        if self.passwd is not None:
            yield f'cp "{self.passwd}" "$R/etc/passwd"'
        else:
            yield f'printf "{_USERS}" > "$R/etc/passwd"'
        yield ': > "$R/etc/group"'


class Network:
    """A network namespace with a loopback device and nothing else, while the block runs."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _HOLD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        assert self._holder.stdout is not None
        self._pid = int(self._holder.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        with self._holder:  # closes its input, upon which it ends
            pass

    def joined(self) -> list[str]:
        """The beginning of a command that runs in it."""
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net"]


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
    if os.geteuid() != 0:
        reason = "a room of its own takes root (mount namespaces, chroot)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _mount_point() -> Path:
    """One empty directory for all rooms: each has its own mount upon it."""
    point = Path(tempfile.gettempdir(), "scim-ledger-room")
    point.mkdir(exist_ok=True)
    return point

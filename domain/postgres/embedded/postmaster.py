"""The running server of a directory: found, started, asked and ended."""

import hashlib
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from psycopg import pq
from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.account import ServerAccount
from domain.postgres.embedded.error import EmbeddedPostgresError

_READY_WITHIN_S: Final = 30.0
_FAST_SHUTDOWN_WITHIN_S: Final = 15.0
_IMMEDIATE_SHUTDOWN_WITHIN_S: Final = 10.0  # the postmaster itself kills its children after 5 s
_LOG_LIMIT_BYTES: Final = 10_000_000
_PORT: Final = "5432"
"""Names the socket; nothing listens there. Said everywhere, or PGPORT would decide."""
_PLAIN: Final = {
    "hostaddr": "",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "require_auth": "",
    "requirepeer": "",
}
"""What PG* variables say of another server, an address or how to be sure of it,
is not about this socket.
"""
_NOT_ASKED: Final = (
    "No connection to PostgreSQL can be tried: a PG* variable is empty or has a value that it "
    "cannot have, or PGSERVICE names a service that is not known. Correct or unset it."
)

# Backends outlive a killed postmaster for a moment, and PostgreSQL rightly refuses to start beside
# them.
_PASSING_REFUSALS: Final = ("pre-existing shared memory block", "lock file")


class _Found(NamedTuple):
    pid: int
    status: str


class Postmaster:
    """The server on the data of a base directory, whoever started it.

    settings: of a server that is started here. One that runs keeps those it was started with.
    """

    def __init__(self, base_dir: Path, account: ServerAccount, settings: Mapping[str, str]) -> None:
        self._base_dir = base_dir
        self._data = base_dir / "data"
        self._log = base_dir / "postgres.log"
        self._account = account
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether our postmaster lives and accepts connections."""
        server = self._found()
        # While it says "starting", each attempt to connect would only fill its log with refusals.
        if server is None or server.status != "ready":
            return False
        return self._ping() == pq.Ping.OK

    def conninfo(self, *, user: str, dbname: str) -> str:
        """Return a libpq connection string.

        There are no passwords: whoever reaches the socket is trusted.
        """
        return make_conninfo(
            host=str(self._socket_dir()), port=_PORT, user=user, dbname=dbname, **_PLAIN
        )

    def settle(self) -> bool:
        """Wait for one that is starting or stopping; return whether there is one afterwards."""
        _eventually(lambda: self.is_running or self._found() is None, _READY_WITHIN_S)
        return self._found() is not None

    @property
    def answers(self) -> bool:
        """Whether something listens at the socket, be it seen among the processes or not."""
        return self._ping() != pq.Ping.NO_RESPONSE

    def launch(self, programs: Path) -> None:
        """Start a postmaster and wait until it is ready or ends; ask again while that can help."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            self._reap()
            self._forget_reused_pid()
            said_before = self._spawn(programs)
            _eventually(lambda: self.is_running or self._has_ended(), _READY_WITHIN_S)
            if not self._has_ended():
                return
            said = self.said(said_before)
            is_passing = any(refusal in said for refusal in _PASSING_REFUSALS)
            if not is_passing or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL in {self._base_dir} does not start.", said)

    def shut_down(self) -> None:
        """End it, politely first. Raises EmbeddedPostgresError."""
        if not (
            self._ends_by(signal.SIGINT, _FAST_SHUTDOWN_WITHIN_S)
            or self._ends_by(signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_WITHIN_S)
        ):
            raise EmbeddedPostgresError(
                f"PostgreSQL in {self._base_dir} does not stop.", self.said()
            )
        self._reap()

    def hand_on(self) -> None:
        """Leave it to the others who use it."""
        if self._process is not None:
            self._process.returncode = 0  # or Python warns that nobody waited for it
            self._process = None

    def _socket_dir(self) -> Path:
        # The socket's whole path must fit into 108 bytes (104 on macOS), and in lists of socket
        # directories a comma, a quote or a space ends the path. Such a data directory gets a
        # stand-in, named after it so that every process finds the same one; below /tmp and not
        # TMPDIR, which differs between processes. Made when first asked for: from then on nobody
        # else can take the name.
        if re.fullmatch(r"[\w./+@-]{1,85}", str(self._data), re.ASCII):
            return self._data
        user, group = self._account.ids()
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        stand_in = Path(f"/tmp/scim-ledger-{user}-{digest}")  # noqa: S108 - checked below
        with suppress(FileExistsError):
            stand_in.mkdir(mode=0o700)
        found = stand_in.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 == os.geteuid():
            os.chown(stand_in, user, group, follow_symlinks=False)
            found = stand_in.lstat()
        # Anybody can make this name first, and would then be the database our secrets are sent to.
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != user
            or stat.S_IMODE(found.st_mode) != stat.S_IRWXU
        ):
            raise EmbeddedPostgresError(
                f"The socket directory {stand_in} is not ours alone; remove it."
            )
        return stand_in

    def _spawn(self, programs: Path) -> int:
        """Start a postmaster; return where in the log its words begin."""
        where = ["-D", str(self._data), "-k", str(self._socket_dir()), "-p", _PORT]
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        # Not through a link: as root we may be writing in the directory of somebody else.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(self._log, flags, mode=0o600), "ab") as log:
            if log.tell() > _LOG_LIMIT_BYTES:
                log.truncate(0)
            said_before = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(  # noqa: S603 - as in ServerAccount.run
                [programs / "postgres", *where, *settings],
                stdout=log,
                stderr=log,
                **self._account.options(),
            )
        return said_before

    def _reap(self) -> None:
        """Take leave of a child that ended, whoever ended it."""
        if self._process is not None:
            self._process.wait(_IMMEDIATE_SHUTDOWN_WITHIN_S)
            self._process = None

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _ping(self) -> pq.Ping:
        """Raises EmbeddedPostgresError where nothing was asked, which is no answer."""
        probe = make_conninfo(self.conninfo(user="postgres", dbname="postgres"), connect_timeout=3)
        found = pq.Ping(pq.PGconn.ping(probe.encode()))
        if found is pq.Ping.NO_ATTEMPT:
            raise EmbeddedPostgresError(_NOT_ASKED)
        return found

    def _found(self) -> _Found | None:
        """Return the living server of this directory.

        Its pid file proves nothing: the id may be reused.
        """
        with suppress(FileNotFoundError, PermissionError, ValueError):
            # pid, data directory, start time, port, socket directory, address, shared memory,
            # status
            pid, data, *_, status = os.fsdecode(
                (self._data / "postmaster.pid").read_bytes()
            ).splitlines()
            if Path(data) == self._data and self._is_postmaster(int(pid)):
                return _Found(int(pid), status.strip())
        return None

    def _is_postmaster(self, pid: int) -> bool:
        # Only the postmaster keeps its arguments: its children rename themselves, a zombie has
        # none.
        return f"/bin/postgres -D {self._data} -k " in _command_line(pid)

    def _forget_reused_pid(self) -> None:
        """Remove pid files that name another process (or a zombie):
        PostgreSQL would take it for its own.

        An id that is free stays: PostgreSQL sees through it, and finds surviving backends by the
        rest.
        """
        pid_file = self._data / "postmaster.pid"
        try:
            os.kill(int(pid_file.read_text().split()[0]), 0)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return
        except (IndexError, ValueError):
            pass  # an empty file, from a full disk: PostgreSQL would refuse that too
        pid_file.unlink()
        (self._socket_dir() / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)

    def _ends_by(self, signal_number: signal.Signals, within_s: float) -> bool:
        server = self._found()
        if server is None:
            if self._has_ended():
                return True
            assert self._process is not None  # so young that it has no pid file yet
            self._process.send_signal(signal_number)
            return _eventually(self._has_ended, within_s)
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal_number)
        return _eventually(lambda: not self._is_postmaster(server.pid), within_s)

    def said(self, since: int = 0) -> str:
        """What it wrote into its log, from a place on."""
        with suppress(FileNotFoundError):
            return self._log.read_bytes()[since:].decode(errors="replace")
        return ""


def _eventually(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not (is_met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_met


def _command_line(pid: int) -> str:
    """Return the words of a process, joined by spaces; empty when there is none."""
    if Path("/proc/self/cmdline").exists():
        with suppress(FileNotFoundError, ProcessLookupError):
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a number

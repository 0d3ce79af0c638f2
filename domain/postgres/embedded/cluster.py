"""The cluster of the embedded server: made once, whole or not at all."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from domain.postgres.embedded.account import ServerAccount, give, known_user
from domain.postgres.embedded.directory_locks import DirectoryLocks
from domain.postgres.embedded.error import EmbeddedPostgresError

_INITDB_WITHIN_S: Final = 60.0
_SEGMENTS: Final = "--wal-segsize=2"
"""MB instead of 16, since no commit ends while a segment is being made."""


class Cluster:
    """The data of one server. locks: of its base directory, held by whoever makes it."""

    def __init__(
        self, data: Path, account: ServerAccount, locks: DirectoryLocks, *, is_durable: bool
    ) -> None:
        self._data = data
        self._account = account
        self._locks = locks
        self._is_durable = is_durable

    @property
    def is_there(self) -> bool:
        """Whether it was made. Raises OSError where that cannot be seen."""
        return (self._data / "PG_VERSION").is_file()

    def ensure(self, programs: Path) -> None:
        """Make it unless it is there. Raises EmbeddedPostgresError, also for another version."""
        version_file = self._data / "PG_VERSION"
        if not version_file.exists():
            self._create(programs)
        found = version_file.read_text().strip()
        shipped = self._account.run(programs / "postgres", "--version").stdout.split()[2]
        if found != shipped.partition(".")[0]:
            raise EmbeddedPostgresError(
                f"The data in {self._data} belong to PostgreSQL {found}, "
                f"the programs are {shipped}: "
                f"put the release back that ships PostgreSQL {found}, take a "
                "backup with it (scim-ledger backup), and restore that with this release into "
                "another directory (docs/how-to/upgrade-postgresql.md)."
            )

    def _create(self, programs: Path) -> None:
        user, group = self._account.ids()
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
            maker = known_user()
            os.chown(unfinished, 0, group)
            os.chown(cluster, maker, group)
        # Trust is enough: the socket lies in a directory only its owner (and root) can enter.
        options = ["-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8", "--no-instructions"]
        speed = [] if self._is_durable else ["--no-sync"]
        # It keeps our lock: whoever comes after us, should we be killed, waits until it has ended.
        run = subprocess.run(  # noqa: S603 - as in ServerAccount.run
            [programs / "initdb", "-D", cluster, *options, _SEGMENTS, *speed],
            capture_output=True, text=True, check=False, timeout=_INITDB_WITHIN_S,
            pass_fds=self._locks.inheritable, **self._account.options(maker),
        )  # fmt: skip
        if run.returncode != 0:
            raise EmbeddedPostgresError(_no_cluster(self._data, run.stderr), run.stderr)
        if os.geteuid() == 0:
            give(cluster, user, group)
        cluster.rename(self._data)
        unfinished.rmdir()
        # Or a power failure undoes the new name, and all that was stored below it.
        _sync(self._data.parent)


def _no_cluster(data: Path, said: str) -> str:
    if "could not look up effective user ID" in said:
        return (
            f"No cluster could be created in {data}: the user {os.geteuid()} is not in the passwd "
            "file, as initdb wants it; add it there, run this as another user, or name a server in "
            "DATABASE_URL."
        )
    return f"No cluster could be created in {data}."


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Embedded servers for tests: where they live, and what is asked about them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import roomy_directory

REPOSITORY = Path(__file__).parents[4]
IS_ROOT = os.geteuid() == 0
ACCOUNT = (60706, 60706) if IS_ROOT else (os.geteuid(), os.getegid())
"""Whom the server runs as: as root somebody whom no file names."""
linux_only = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="looks at processes through /proc"
)


@contextmanager
def short_dir() -> Iterator[Path]:
    """Yield a directory that can be opened for the server's user;
    pytest's own lie below closed ones.
    """
    place = Path(tempfile.mkdtemp(prefix="ledger-", dir=roomy_directory()))
    try:
        yield place
    finally:
        for pid_file in place.rglob("postmaster.pid"):  # what a failed test left running
            EmbeddedPostgres(pid_file.parents[1]).stop()
        shutil.rmtree(place)


def execute(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(
        server.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def setting(server: EmbeddedPostgres, name: str) -> object:
    return execute(server, f"SHOW {name}")[0][0]


def postmaster_pid(base_dir: Path) -> int:
    return int((base_dir / "data" / "postmaster.pid").read_text().split()[0])


def processes_in(directory: Path) -> list[str]:
    """Return the commands of all processes whose working directory this is,
    as data is for PostgreSQL.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_bytes().decode())
    return found


def python(
    code: str, *arguments: object, stdin: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(REPOSITORY)]))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(child: subprocess.Popen[str]) -> str:
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return output.strip()


START_AND_VANISH = """
import os, sys
from pathlib import Path
from domain.postgres.embedded.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), is_durable=False)
server.start()
print((Path(sys.argv[1]) / "data" / "postmaster.pid").read_text().split()[0], flush=True)
os._exit(0)
"""

"""A PostgreSQL cluster that holds a migrated ledger, for servers that belong to one test.

Made once in each process; a copy costs a tenth of initdb and migrations.
"""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import migrate
from projections.follow.positions import ensure_live
from projections.registry import PROJECTIONS
from tests.conftest import APP_ROLE, roomy_directory

DATABASE: Final = "postgres"


def new_base(kind: str, *, is_durable: bool) -> Path:
    """Make a directory for a test's own server, on the disk if what it confirms must be there."""
    place = "/tmp" if is_durable else roomy_directory()
    base = Path(tempfile.mkdtemp(prefix=f"scim-ledger-{kind}-", dir=place))
    base.chmod(0o711)
    return base


def copy_cluster(base_dir: Path) -> None:
    """Copy the cluster to where `EmbeddedPostgres(base_dir)` finds it.

    Its database `postgres` is migrated and has its views and the role of the application.
    """
    base_dir.mkdir(exist_ok=True)
    base_dir.chmod(0o711)
    # As root the files are of the server's own account: `cp -a` keeps that.
    subprocess.run(["cp", "-a", _made() / "data", base_dir / "data"], check=True)


@contextmanager
def own_copy(
    kind: str, *, is_durable: bool = False, settings: Mapping[str, str] = {}
) -> Iterator[EmbeddedPostgres]:
    """A server on a copy of the cluster, to be started by whoever it is for; gone afterwards."""
    base = new_base(kind, is_durable=is_durable)
    server = EmbeddedPostgres(base, is_durable=is_durable, settings=settings)
    try:
        copy_cluster(base)
        yield server
    finally:
        server.stop()
        shutil.rmtree(base)


@cache
def _made() -> Path:
    base = new_base("ready", is_durable=False)
    atexit.register(shutil.rmtree, base)
    with EmbeddedPostgres(base, is_durable=False) as server:
        owner = server.conninfo(user="postgres", dbname=DATABASE)
        with psycopg.connect(owner, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(APP_ROLE)))
        migrate(owner, app_role=APP_ROLE)
        with psycopg.connect(make_conninfo(owner, user=APP_ROLE), autocommit=True) as app:
            for projection in PROJECTIONS:
                ensure_live(app, projection)
    return base

"""PostgreSQL for a run: a durable embedded server, its databases, and its own floor by pgbench."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import migrate
from projections.follow.positions import ensure_live
from projections.registry import PROJECTIONS
from tests import postgres_programs

OWNER: Final = "postgres"
APP_ROLE: Final = "scim_ledger"
SERVED_DATABASE: Final = "scim_ledger"
"""The database that `scim-ledger serve --data-dir` uses;
the role has the name that it expects, too.
"""

_TPS: Final = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_ONE_USE: Final = """
    INSERT INTO uses (token_id, version, at, state)
    VALUES (gen_random_uuid(), 1, now(), decode(repeat('ab', 180), 'hex'));
"""


@dataclass(frozen=True, slots=True)
class Database:
    """One migrated database, its views made. owner, app: connection strings of the two roles."""

    owner: str
    app: str


class Store:
    """A server that forces every commit to disk, in a directory that `serve --data-dir` accepts."""

    def __init__(self, base_dir: Path) -> None:
        self.base_dir = base_dir
        self._server = EmbeddedPostgres(base_dir, is_durable=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the server up for the block."""
        self._server.start()
        try:
            yield
        finally:
            self._server.stop()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hand the directory over to somebody else for the block."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()

    def conninfo(self, database: str = "postgres") -> str:
        """A superuser's connection string."""
        return self._server.conninfo(user=OWNER, dbname=database)

    def create_empty(self, name: str) -> str:
        """A database without any schema of ours; returns the owner's connection string."""
        with psycopg.connect(self.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.conninfo(name)

    def create(self, name: str) -> Database:
        """A database as the service wants it."""
        owner = self.create_empty(name)
        with (
            psycopg.connect(owner, autocommit=True) as admin,
            suppress(psycopg.errors.DuplicateObject),
        ):
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(APP_ROLE)))
        migrate(owner, app_role=APP_ROLE)
        database = Database(owner, make_conninfo(owner, user=APP_ROLE))
        with psycopg.connect(database.app, autocommit=True) as app:
            for projection in PROJECTIONS:
                ensure_live(app, projection)
        return database


class Pgbench:
    """What the server can do at all: one small insert per commit."""

    def __init__(self, conninfo: str, work: Path) -> None:
        self._program = postgres_programs.directory() / "pgbench"
        self._conninfo = conninfo
        self._script = work / "one_use.sql"
        self._script.write_text(_ONE_USE)
        with psycopg.connect(conninfo) as admin:
            admin.execute(
                "CREATE TABLE uses (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "token_id uuid, version bigint, at timestamptz, state "
                "bytea, UNIQUE (token_id, version))"
            )

    def rate(self, *, clients: int, seconds: int) -> float:
        """Commits per second."""
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds)]
        output = subprocess.run(
            [self._program, *options, "-f", self._script, self._conninfo],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found = _TPS.search(output)
        assert found, output
        return float(found[1])

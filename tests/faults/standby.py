"""A primary with a standby that streams from it:
both real, both embedded, each for the test to mistreat.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import APP_ROLE, Database
from tests.faults.own_server import postmaster_pid, process_tree, send
from tests.ready_cluster import copy_cluster, new_base
from tests.service import until


class Server:
    """One of the two. conninfo: of its superuser."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded
        self.conninfo = embedded.conninfo(user="postgres", dbname="postgres")

    @property
    def database(self) -> Database:
        """This one alone, as owner and as app role."""
        return Database(owner=self.conninfo, app=make_conninfo(self.conninfo, user=APP_ROLE))

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a statement, as superuser; none for one that returns nothing."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def configure(self, name: str, value: str) -> None:
        """ALTER SYSTEM, and wait until it is in force."""
        self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")
        until(lambda: self.ask(f"SHOW {name}") == [(value,)], what=f"{name} = {value}")


class Cluster:
    """Both; the ledger is on them.

    database: a connection string with both hosts, as the app role.
    """

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary, self.standby = primary, standby
        hosts = [conninfo_to_dict(server.conninfo) for server in (primary, standby)]
        both = {part: ",".join(str(host[part]) for host in hosts) for part in ("host", "port")}
        owner = make_conninfo(primary.conninfo, **both)
        self.database = Database(owner=owner, app=make_conninfo(owner, user=APP_ROLE))

    def start_standby(self) -> None:
        """Beginning, or again after `standby.embedded.stop()`;
        returns when it has all that there is.
        """
        server = self.standby.embedded
        # its own `start` waits for a server that takes writes
        server._postmaster._spawn(server.programs())
        until(
            lambda: server._postmaster._ping() == pq.Ping.OK,
            timeout_s=30,
            what="a standby",
            tell=server._postmaster.said,
        )
        self.until_streaming()

    def until_streaming(self) -> None:
        """Until the standby has all that the primary has."""
        caught_up = (
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
        )
        until(lambda: self.primary.ask(caught_up) == [(1,)], what="streaming")

    def until_received(self) -> None:
        """Until the standby holds all that the primary has, whether it has applied it or not."""
        received = (
            "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()"
        )
        until(lambda: self.primary.ask(received) == [(1,)], what="all received")

    def cut_off_standby(self) -> None:
        """The standby hears nothing more of the primary, which does not mind."""
        self.standby.configure("primary_conninfo", "")
        streaming = "SELECT count(*) FROM pg_stat_replication"
        until(lambda: self.primary.ask(streaming) == [(0,)], what="the standby is cut off")

    def kill_primary(self) -> None:
        """SIGKILL to all of it at once."""
        send(process_tree(postmaster_pid(self.primary.embedded.base_dir)), signal.SIGKILL)

    def promote(self) -> None:
        """The standby takes writes from now on, whatever the primary does."""
        assert self.standby.ask("SELECT pg_promote()") == [(True,)]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Started, migrated, streaming; gone afterwards."""
    base = new_base("cluster", is_durable=False)
    primary, standby = (EmbeddedPostgres(base / name, is_durable=False) for name in ("one", "two"))
    try:
        copy_cluster(base / "one")
        primary.start()
        _copy(primary, standby)
        made = Cluster(Server(primary), Server(standby))
        made.start_standby()
        yield made
    finally:
        standby.stop()
        primary.stop()
        shutil.rmtree(base)


def _copy(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    """A base backup that follows the primary once it is started."""
    data = standby.base_dir / "data"
    with standby._explained():
        standby._prepare_base_dir()
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, *standby._account.ids())
    program = primary.programs() / "pg_basebackup"
    source = ("-d", primary.conninfo(user="postgres", dbname="postgres"))
    run = primary._account.run(
        program, *source, "-D", data, "-R", "-c", "fast", "--no-sync", within_s=60
    )
    assert run.returncode == 0, run.stderr
    for copied in data.glob(".s.PGSQL.*"):  # the primary's socket lies in its data directory
        copied.unlink()

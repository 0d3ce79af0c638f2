"""A database server that a test may stop, kill and corrupt the life of: nobody else uses it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import Database
from tests.ready_cluster import own_copy


class OwnServer:
    """An embedded server with one migrated database."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        conninfo = server.conninfo(user="postgres", dbname="postgres")
        self.database = Database(owner=conninfo, app=conninfo)

    def processes(self) -> list[int]:
        """The postmaster and its children."""
        return process_tree(postmaster_pid(self.server.base_dir))

    def kill(self) -> None:
        """SIGKILL to all of it at once, as a power failure would, but for the disk."""
        send(self.processes(), signal.SIGKILL)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP: sockets stay open, the kernel accepts, nobody answers."""
        pids = self.processes()
        send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            send(pids, signal.SIGCONT)


@contextmanager
def own_server(*, is_durable: bool) -> Iterator[OwnServer]:
    """Started and migrated; gone afterwards."""
    with own_copy("own", is_durable=is_durable) as server:
        server.start()
        yield OwnServer(server)


def postmaster_pid(base_dir: Path) -> int:
    """Process id of the server that runs in a directory."""
    return int((base_dir / "data" / "postmaster.pid").read_text().split()[0])


def process_tree(root: int) -> list[int]:
    """A process and all its descendants, the root first."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state ppid …; the name may hold anything, even a parenthesis
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def send(pids: list[int], number: signal.Signals) -> None:
    """A signal to processes, some of which may have ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

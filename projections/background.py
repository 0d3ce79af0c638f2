"""Work that can wait gives way to the doors, with which it may share a machine."""

import os
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from psycopg import Connection

NICE: Final = 10
"""Of 0 to 19. A process that wants all of a processor beside others with 0 gets a tenth of it."""

_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), SO_PEERCRED: process, user, group


def give_way(connection: Connection) -> None:
    """Make this thread nice, and the server process of the connection, if that runs on this machine.

    For as long as they live, and where the kernel (Linux) lets us; otherwise nothing happens.
    """
    if sys.platform != "linux":
        return
    _make_nice(threading.get_native_id())
    server = _server_process(connection)
    if server is not None:
        _make_nice(server)
        # Where each session is scheduled as one (sched(7), autogroup), being nice counts only within it, and
        # each server process of PostgreSQL is a session: then the session has to be nice.
        with suppress(OSError):
            Path(f"/proc/{server}/autogroup").write_text(str(NICE))


def _make_nice(process_id: int) -> None:
    with suppress(OSError):
        nice = max(NICE, os.getpriority(os.PRIO_PROCESS, process_id))
        os.setpriority(os.PRIO_PROCESS, process_id, nice)


def _server_process(connection: Connection) -> int | None:
    """The id that the other end's process has here; None for another machine, or another container's.

    Ids do not reach across containers, but the kernel translates that of the postmaster, who listens.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        if sys.platform != "linux" or duplicate.family != socket.AF_UNIX:
            return None
        credentials = duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    postmaster, _, _ = _CREDENTIALS.unpack(credentials)
    backend = connection.info.backend_pid
    return backend if postmaster and _parent(backend) == postmaster else None


def _parent(process_id: int) -> int | None:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text("latin-1")  # proc_pid_stat(5)
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])

"""Lower the priority of work that can wait, so that the doors keep the processor.

Where the kernel (Linux) lets us, and for as long as the process lives; otherwise nothing happens. A
kernel that schedules each session as one (sched(7), autogroup) heeds the niceness of a process only
within its session: then that has to be nice. Each server process of PostgreSQL is a session, and
each of our programs.
"""

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
"""Rebuilds and verifications.

Beside another with 0, a process that wants all of a processor gets a tenth.
"""

NICE_FOLLOWING: Final = 5
"""The views that follow the ledger: a quarter.

Readers wait for them, though not as those at a door do.
"""

_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), SO_PEERCRED: process, user, group


def give_way(connection: Connection, *, nice: int = NICE) -> None:
    """Make this thread nice, and the server process of the connection,
    if that runs on this machine.
    """
    if sys.platform != "linux":
        return
    _make_nice(threading.get_native_id(), nice)
    server = _server_process(connection)
    if server is not None:
        _make_nice(server, nice)
        _make_session_nice(server, nice)


def process_gives_way(*, nice: int) -> None:
    """Make this process nice, and its session where it leads one:
    a shell's is not ours to slow down.
    """
    if sys.platform == "linux":
        _make_nice(os.getpid(), nice)
        if os.getsid(0) == os.getpid():
            _make_session_nice(os.getpid(), nice)


def _make_nice(process_id: int, nice: int) -> None:
    with suppress(OSError):
        os.setpriority(
            os.PRIO_PROCESS, process_id, max(nice, os.getpriority(os.PRIO_PROCESS, process_id))
        )


def _make_session_nice(process_id: int, nice: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{process_id}/autogroup").write_text(str(nice))


def _server_process(connection: Connection) -> int | None:
    """The id that the other end's process has here;
    None for another machine, or another container's.

    Ids do not reach across containers, but the kernel translates that of the postmaster, who
    listens.
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

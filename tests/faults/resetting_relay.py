"""Between a client and PostgreSQL: a server that dies with the client's question unread."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05I"
_PATIENCE_S: Final = 10.0


class ResettingRelay:
    """Of one connection to a server on a Unix socket.

    conninfo: leads through it. kept: from when it is set, the next question is carried out, so many
    bytes of its answer come back, and the kernel resets the connection: the question was only
    looked at. has_reset: set after that.
    """

    def __init__(self, upstream: str, directory: Path) -> None:
        self.conninfo = make_conninfo(upstream, host=str(directory))
        self.kept: int | None = None
        self.has_reset = threading.Event()
        self._upstream = f"{conninfo_to_dict(upstream)['host']}/.s.PGSQL.5432"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self._listener.settimeout(_PATIENCE_S)

    def run(self) -> None:
        """Until the client leaves or is reset."""
        with (
            self._listener,
            self._listener.accept()[0] as client,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.connect(self._upstream)
            while True:
                readable = select([client, server], [], [], _PATIENCE_S)[0]
                if not readable:
                    return
                if client in readable and self.kept is not None:
                    server.sendall(client.recv(65536, socket.MSG_PEEK))
                    client.sendall(_answer(server)[: self.kept])
                    break
                for source in readable:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
        self.has_reset.set()


def _answer(server: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(_READY_FOR_QUERY):
        answer += server.recv(65536)
    return answer


@contextmanager
def resetting_relay(upstream: str) -> Iterator[ResettingRelay]:
    """One in a thread of its own."""
    directory = Path(tempfile.mkdtemp(prefix="scim-relay-", dir="/tmp"))
    relay = ResettingRelay(upstream, directory)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        thread.join()
        shutil.rmtree(directory)

"""A server that takes nothing for a while, such as one whose disk is busy, has not gone."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.postgres.connection import open_connection
from domain.postgres.session import COMMAND, FOLLOWING, MIGRATING, REBUILDING, UNSENT_MS, Session
from tests.conftest import Database

pytestmark = pytest.mark.long

BUSY_S: Final = UNSENT_MS / 1000 + 3
ROWS: Final = 200_000
ROW: Final = "x" * 100


class Relay:
    """TCP before a server on a Unix socket. conninfo: leads through it.

    is_busy: reads no more from the client.
    """

    def __init__(self, upstream: str, listener: socket.socket) -> None:
        parts = conninfo_to_dict(upstream)
        self._upstream = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        self._listener = listener
        self.conninfo = make_conninfo(
            upstream, host="127.0.0.1", port=listener.getsockname()[1], sslmode="disable"
        )
        self.is_busy = False

    def run(self) -> None:
        """Of one connection, until it ends."""
        with (
            self._listener.accept()[0] as client,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.connect(self._upstream)
            back = threading.Thread(target=self._answers, args=(server, client))
            back.start()
            while data := client.recv(65536):
                server.sendall(data)
                while self.is_busy:
                    time.sleep(0.05)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)


@contextmanager
def relay(upstream: str) -> Iterator[Relay]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        made = Relay(upstream, listener)

        def run() -> None:
            with suppress(OSError):
                made.run()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield made
        finally:
            made.is_busy = False
            thread.join()


@pytest.mark.parametrize("session", [REBUILDING, COMMAND, MIGRATING])
def test_what_may_take_as_long_as_it_likes_waits_for_it(
    database: Database, session: Session
) -> None:
    assert copied(database, session) == ROWS


def test_what_is_bounded_gives_up(database: Database) -> None:
    """So this test would see a network that is taken for gone."""
    with pytest.raises(psycopg.OperationalError):
        copied(database, FOLLOWING)


def copied(database: Database, session: Session) -> int:
    """Rows that are written while the server takes nothing for BUSY_S."""
    with (
        relay(database.owner) as between,
        open_connection(between.conninfo, session=session) as connection,
    ):
        connection.execute("CREATE TEMPORARY TABLE copied (text text)")
        timer = threading.Timer(BUSY_S, setattr, (between, "is_busy", False))
        with connection.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copying:
            between.is_busy = True
            timer.start()
            for _ in range(ROWS):
                copying.write_row([ROW])
        timer.join()
        row = connection.execute("SELECT count(*) FROM copied").fetchone()
        assert row is not None
        return int(row[0])

"""What a connection to PostgreSQL is told about how long to wait."""

import os
import socket
import sys

import pytest
from psycopg.pq import PGconn, PollingStatus

from domain.eventstore.connection import watched


@pytest.mark.skipif(sys.platform != "linux", reason="the options have other names elsewhere")
def test_a_server_whose_machine_is_gone_is_noticed_within_eight_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connection = PGconn.connect_start(watched(f"host=127.0.0.1 port={port} sslmode=disable").encode())
        while (status := connection.connect_poll()) == PollingStatus.WRITING:
            pass
        assert status == PollingStatus.READING
        with socket.socket(fileno=os.dup(connection.socket)) as ours:
            idle_s, interval_s, count, unsent_ms = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.finish()
    assert idle_s + interval_s * count <= 8
    assert unsent_ms <= 8000

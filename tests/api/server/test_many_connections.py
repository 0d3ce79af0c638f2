"""A6: one address that keeps more connections than there are places keeps nobody out."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Database
from tests.service import running_service

pytestmark = pytest.mark.long

CONNECTIONS = 2100
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: ledger\r\n\r\n"


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough for the clients; the service is started with what a shell has by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CONNECTIONS:
        pytest.skip("this machine lets a process open too few files")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
def test_connections_that_are_kept_and_not_used_keep_nobody_out(database: Database) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    with running_service(database) as service, ExitStack() as kept:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CONNECTIONS, hard))
        address = urlsplit(service.url)
        for _ in range(CONNECTIONS):
            client = socket.create_connection((address.hostname, address.port), timeout=10)
            kept.enter_context(closing(client)).sendall(REQUEST)
            assert client.recv(9999).startswith(b"HTTP/1.1 200 ")

        caller = service.api_token()
        for _ in range(5):
            for path in ("/readyz", "/scim-token"):
                answer = httpx.get(service.url + path, auth=caller, trust_env=False)
                assert answer.status_code == 200
        client.sendall(REQUEST)
        assert client.recv(9999).startswith(b"HTTP/1.1 200 "), (
            "the newest is not the one that gives way"
        )
        assert not [
            record for record in service.records() if record.get("level") in {"error", "critical"}
        ]

"""A log that nothing can be written to, on a full disk or without a reader, ends no service."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.service import COMMAND, START_TIMEOUT_S, STOP_TIMEOUT_S, service_environment, until


def on_a_full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def without_a_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def good_answers(port: int, number: int) -> int:
    """Of as many requests, sent at once: none is answered before the line of the one before it."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request * (number - 1) + last)
        with connection.makefile("rb") as answer:
            return answer.read().count(b"HTTP/1.1 200 OK")


@pytest.mark.long
@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("open_log", [on_a_full_disk, without_a_reader])
def test_a_service_starts_answers_and_ends(
    database: Database, tmp_path: Path, open_log: Callable[[], int], log_format: str
) -> None:
    """With a line for each answer: a start that fails, and requests that do, would all show."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = service_environment(
        database.app,
        SCIM_LEDGER_ACCESS_LOG="true",
        SCIM_LEDGER_LOG_FORMAT=log_format,
        SCIM_LEDGER_FIRST_TOKEN_FILE=str(tmp_path / "first-api-token"),
    )
    log = open_log()
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", str(port)], env=environment, stdout=log, stderr=log
    )
    os.close(log)

    def status(path: str) -> int:
        assert process.poll() is None, f"exit code {process.returncode}"
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code
        except httpx.TransportError:
            return 0

    try:
        until(lambda: status("/readyz") == HTTPStatus.OK, timeout_s=START_TIMEOUT_S)
        assert good_answers(port, 5) == 5
        assert status("/scim-token") == HTTPStatus.UNAUTHORIZED
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()

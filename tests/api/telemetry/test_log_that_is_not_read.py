"""A log whose reader stands still holds nobody up, and what it gets are whole lines."""

import fcntl
import json
import os
import pty
import socket
import subprocess
import threading
import tty
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
import pytest
import structlog

from api.telemetry import log_lines
from api.telemetry.log_lines import HURRY_S, WAIT_S, LogLines
from api.telemetry.logs import configure_logging
from tests.conftest import Database
from tests.service import COMMAND, STOP_TIMEOUT_S, service_environment
from tests.stopwatch import Stopwatch
from tests.turns import by_turns

LINE: Final = "x" * 150
ROOM: Final = 4_000
"""Lines that no pipe and no socket holds."""
READ_WITHIN_S: Final = 30.0
OPEN: Final = Path("/proc/self/fd")


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_socket() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def a_terminal() -> tuple[int, int]:
    reading, writing = pty.openpty()
    tty.setraw(writing)
    return reading, writing


@pytest.fixture(params=[a_pipe, a_socket, a_terminal])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    ends = request.param()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(params=[True, False], ids=["opened anew", "where there is room"])
def _reopened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        return

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)


def read_all(descriptor: int) -> list[str]:
    """The lines that are there."""
    os.set_blocking(descriptor, False)
    read = b""
    while True:
        try:
            read += os.read(descriptor, 65536)
        except BlockingIOError:
            return read.decode().splitlines()


@pytest.mark.usefixtures("_reopened")
def test_a_reader_that_stands_still_is_not_waited_for(ends: tuple[int, int]) -> None:
    reading, writing = ends
    lines, watch = LogLines(writing), Stopwatch()
    for _ in range(ROOM):
        print(LINE, file=lines, flush=True)
    took_s = watch.read_s()
    assert took_s < WAIT_S * (1 + took_s / HURRY_S) + 0.5
    assert 0 < lines.left_out < ROOM
    assert os.get_blocking(writing), "others have the descriptor, too"
    taken = read_all(reading)
    print("again", file=lines, flush=True)
    assert lines.left_out == 0
    taken += read_all(reading)
    assert taken.pop() == "again"
    assert LINE in taken
    assert [each for each in taken if not LINE.startswith(each)] == [], "what was cut stays alone"


def test_a_line_is_written_at_once(ends: tuple[int, int]) -> None:
    reading, writing = ends
    lines = LogLines(writing)
    lines.write("half of ")
    assert read_all(reading) == []
    lines.write("it\nand ")
    assert read_all(reading) == ["half of it"]
    lines.write("\udcff\n")
    assert read_all(reading) == ["and \\udcff"]


def test_a_line_in_many_pieces_is_one(ends: tuple[int, int]) -> None:
    reading, writing = ends
    lines = LogLines(writing)
    for piece in ("a line ", "in many ", "pieces", "\n"):
        lines.write(piece)
    assert read_all(reading) == ["a line in many pieces"]


def test_what_comes_behind_half_a_line_has_its_own(ends: tuple[int, int]) -> None:
    reading, writing = ends
    lines = LogLines(writing)
    print("x" * 1_000_000, file=lines, flush=True)
    assert lines.left_out == 1
    half = "".join(read_all(reading))
    for line in ("one", "another"):
        print(line, file=lines, flush=True)
    assert half == "x" * len(half)
    assert read_all(reading) == ["", "one", "another"], "the end of the half, then whole lines"


def test_a_reader_that_is_only_busy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "WAIT_S", READ_WITHIN_S)
    reading, writing = a_pipe()
    lines, taken = LogLines(writing), bytearray()
    filled = os.write(writing, b"y" * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ))

    def read() -> None:
        while len(taken) < filled + len(LINE) + 1:
            taken.extend(os.read(reading, 65536))

    reader = threading.Timer(0.1, read)
    reader.daemon = True
    reader.start()
    print(LINE, file=lines, flush=True)
    assert lines.left_out == 0
    reader.join()
    assert taken.endswith(f"{LINE}\n".encode())


def test_closing_it_twice_closes_nothing_of_others() -> None:
    _, writing = a_pipe()
    lines = LogLines(writing)
    before = len(list(OPEN.iterdir()))
    lines.close()
    assert len(list(OPEN.iterdir())) == before - 1, "what it opened itself"
    others = [os.dup(writing) for _ in range(4)]
    lines.close()
    for descriptor in (writing, *others):
        os.fstat(descriptor)


def test_the_next_line_tells_how_many_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = a_pipe()
    stderr = LogLines(writing)
    monkeypatch.setattr("sys.stderr", stderr)
    configure_logging("info")
    monkeypatch.setattr(log_lines, "WAIT_S", 0.0)
    for _ in range(ROOM):
        structlog.get_logger().info("one")
    taken, left_out = read_all(reading), stderr.left_out
    for _ in range(2):
        structlog.get_logger().info("another")
    told = [json.loads(line).get("lines_left_out") for line in read_all(reading)]
    assert len(taken) + left_out == ROOM
    assert told == [left_out, None]


def test_where_nobody_reads_or_nothing_fits_nothing_fails() -> None:
    reading, writing = a_pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full:
        for descriptor in (writing, full.fileno()):
            lines = LogLines(descriptor)
            print(LINE, file=lines, flush=True)
            assert lines.left_out == 1


@pytest.mark.parametrize("log_format", by_turns(["json", "text"], one_of=2))
def test_a_service_answers_and_ends_while_nobody_reads(
    database: Database, tmp_path: Path, log_format: str
) -> None:
    """Each write to such a socket is a message: a line in two would come as two."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = service_environment(
        database.app,
        SCIM_LEDGER_ACCESS_LOG="true",
        SCIM_LEDGER_LOG_FORMAT=log_format,
        SCIM_LEDGER_FIRST_TOKEN_FILE=str(tmp_path / "first-api-token"),
        PYTHONUNBUFFERED="1",  # as in most containers
    )
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", "--workers", "2"],
        env=environment,
        stderr=writing.fileno(),
    )
    writing.close()
    reading.settimeout(READ_WITHIN_S)
    try:
        messages = read_until(reading, "listens on ")
        url = messages[-1].split()[-1]
        with httpx.Client(base_url=url, trust_env=False, timeout=5) as client:
            while client.get("/readyz").status_code != HTTPStatus.OK:
                pass
            for _ in range(600):
                assert client.get("/healthz").status_code == HTTPStatus.OK
            reader = Reader(reading)
            while not any("lines_left_out" in message for message in reader.messages):
                assert client.get("/healthz").status_code == HTTPStatus.OK
        process.terminate()
        assert process.wait(STOP_TIMEOUT_S) == 0
        reader.thread.join(READ_WITHIN_S)
    finally:
        process.kill()
        process.wait()
        reading.close()
    messages += reader.messages
    assert [message for message in messages if message.count("\n") != 1] == []
    assert [message for message in messages if not message.endswith("\n")] == []


class Reader:
    """Reads messages on a thread, to their end. messages: so far."""

    def __init__(self, reading: socket.socket) -> None:
        self.messages: list[str] = []
        self.thread = threading.Thread(target=self._run, args=(reading,), daemon=True)
        self.thread.start()

    def _run(self, reading: socket.socket) -> None:
        while message := reading.recv(65536):
            self.messages.append(message.decode())


def read_until(reading: socket.socket, words: str) -> list[str]:
    """Messages up to the one that holds the words."""
    messages = [""]
    while words not in messages[-1]:
        message = reading.recv(65536).decode()
        assert message, messages
        messages.append(message)
    return messages[1:]

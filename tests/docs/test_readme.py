"""Every command of the README runs, in order, on a fresh clone with a fresh home."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import roomy_directory
from tests.docs.documents import ROOT, blocks
from tests.gateways.programs import free_port

READY_WITHIN_S: Final = 30.0
PRELUDE: Final = "set -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT"


@pytest.fixture
def clone() -> Iterator[Path]:
    """The tracked files and those not ignored, as a clone has them."""
    with tempfile.TemporaryDirectory(
        prefix="scim-ledger-readme-", dir=roomy_directory()
    ) as directory:
        Path(directory).chmod(0o711)  # as root, the database's user must reach its data
        clone = Path(directory) / "clone"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, clone / name)
        yield clone


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
            with suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(self.here("http://127.0.0.1:8080/readyz"), timeout=5).close()
                return process
            assert process.poll() is None, f"the service ended with {process.returncode}"
            assert time.monotonic() < deadline, "the service is not ready"
            time.sleep(0.1)

    def five_minutes(self) -> str:
        """All blocks of the walk in one shell, as a person types them; what they printed."""
        left_out = [] if self.has_gateways else blocks("gateway")
        scripts = [script for script in blocks("walk") if script not in left_out]
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
        return done.stdout


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=30)


def told(output: str, *, has_gateways: bool) -> None:
    """The five minutes show what the README says they show."""
    assert '"last_used_at":null' in output  # as it was created
    assert re.search(r'"last_used_at":"[0-9T:.-]+Z"', output)  # after the use
    assert output.count("HTTP/1.1 200") == 1
    assert output.count("HTTP/1.1 401") == 1
    assert "x-scim-team-id: 05daecaf-4365-42e8-8370-8127de5dd717" in output
    for kind in (
        "scim_token.created",
        "scim_token.used",
        "scim_token.refused",
        "scim_token.revoked",
    ):
        assert kind in output
    if has_gateways:
        assert "urn:ietf:params:scim:api:messages:2.0:ListResponse" in output


@pytest.mark.long
def test_the_five_minutes_do_what_they_say(clone: Path) -> None:
    (clone / ".venv").symlink_to(sys.prefix)
    walk = Walk(clone, has_gateways=False)
    service = walk.start(".venv/bin/scim-ledger serve")
    try:
        told(walk.five_minutes(), has_gateways=False)
    finally:
        stop(service)


@pytest.mark.gateway
def test_a_fresh_clone_runs_by_the_commands_of_the_readme(clone: Path) -> None:
    (command,) = blocks("run")
    walk = Walk(clone, has_gateways=True)
    service = walk.start(command)
    try:
        told(walk.five_minutes(), has_gateways=True)
    finally:
        stop(service)


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    (command,) = blocks("test")
    extracted = subprocess.run(
        [ROOT / ".ci" / "readme-command", "test"], capture_output=True, text=True, check=True
    ).stdout
    assert extracted.strip() == command.strip()
    assert ".ci/readme-command test" in (ROOT / ".ci" / "run").read_text("utf-8")

"""The wheel in a clean environment outside the checkout, run by somebody without any privilege."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest

from tests.conftest import roomy_directory
from tests.installation import wheel
from tests.installation.room import UID, Room, python_as_installed
from tests.service import until

pytestmark = pytest.mark.long

AS: Final = {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}


class Place:
    """A directory outside the checkout. made: the wheel. home: of the user, empty."""

    def __init__(self, base: Path) -> None:
        self.made = wheel.built(base / "dist")
        self.commands = wheel.installed(self.made, base / "environment")
        self.home = base / "home"
        self.home.mkdir(mode=0o700)
        if AS:
            os.chown(self.home, UID, UID)
        self.base = base

    def command(self, *arguments: str) -> list[str]:
        """The installed command; as root in a room of its own, where only home is writable."""
        argv = [str(self.commands / "scim-ledger"), *arguments]
        if not AS:
            return ["env", "-i", "-C", str(self.home), *self.variables(), *argv]
        room = Room(
            shown={**python_as_installed(), str(self.commands.parent): self.commands.parent},
            writable={str(self.home): self.home},
        )
        return room.command(argv, cwd=str(self.home), environment={"HOME": str(self.home)})

    def variables(self) -> list[str]:
        return [f"HOME={self.home}", "PATH=/usr/bin:/bin"]

    def told(self, *arguments: str) -> str:
        return wheel.run([*self.command(*arguments)])


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="scim-ledger-wheel-", dir=roomy_directory()) as base:
        Path(base).chmod(0o711)
        yield Place(Path(base))


@contextmanager
def serving(command: list[str], log: Path) -> Iterator[str]:
    """Run a service until it is ready; its URL. It ends with 0 after SIGTERM."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=stderr, start_new_session=True)
    found: list[str] = []

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        found[:] = re.findall(r"listens on (\S+)", log.read_text())
        if not found:
            return False
        try:
            return httpx.get(f"{found[0]}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(is_ready, timeout_s=60, what="readiness", tell=log.read_text)
        yield found[0]
    finally:
        process.terminate()
        exit_code = process.wait(60)
    assert exit_code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_service_runs_from_the_wheel_alone(place: Place) -> None:
    with serving(place.command("serve", "--port", "0"), place.base / "log") as url:
        token = place.home / ".local" / "share" / "scim-ledger" / "first-api-token"
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
        body = {"team_id": str(uuid4()), "name": "Okta"}
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            made = client.post("/scim-token", headers=headers, json=body)
            assert made.status_code == 201, made.text
            bearer = {"Authorization": f"Bearer {made.json()['token']}"}
            assert client.get("/gateway/forward", headers=bearer).status_code == 200
            assert client.get("/docs").status_code == 200
            assert client.get("/docs/assets/swagger-ui.css").status_code == 200
        assert json.loads(place.told("verify", "--json"))["damage"] is None
    assert "auth_request" in place.told("deploy", "show", "nginx")


@pytest.fixture
def tools(place: Place) -> Mapping[str, str]:
    """Variables of a person whose home is empty; what their tools need to reach a registry."""
    constraints = wheel.constraints(place.base)
    home = place.base / "person"
    home.mkdir(exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "REQUESTS_"))
    }
    cache = wheel.run([wheel.UV, "cache", "dir"]).strip()
    return {
        **kept, "HOME": str(home), "PATH": os.environ["PATH"], "UV_CACHE_DIR": cache,
        "UV_CONSTRAINT": str(constraints), "PIP_CONSTRAINT": str(constraints),
    }  # fmt: skip


def test_uvx_runs_the_wheel(place: Place, tools: Mapping[str, str]) -> None:
    uvx = shutil.which("uvx", path=f"{Path(sys.executable).parent}:{wheel.UV.resolve().parent}")
    assert uvx is not None, "it comes with uv"
    command: list[str | Path] = [uvx, "-q", "--python", sys.executable, "--from", place.made]
    said = wheel.run([*command, "scim-ledger", "--version"], env=tools, cwd=tools["HOME"])
    assert said.strip() in place.made.name


def test_pipx_runs_and_installs_the_wheel(place: Place, tools: Mapping[str, str]) -> None:
    pipx: list[str | Path] = [sys.executable, "-m", "pipx"]
    here = {"env": tools, "cwd": tools["HOME"]}
    said = wheel.run([*pipx, "run", "--spec", place.made, "scim-ledger", "--version"], **here)
    assert said.strip() in place.made.name
    wheel.run([*pipx, "install", place.made], **here)
    command = Path(tools["HOME"], ".local", "bin", "scim-ledger")
    assert "nginx/scim.conf.template" in wheel.run([command, "deploy", "list"], **here)

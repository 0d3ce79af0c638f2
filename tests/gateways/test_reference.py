"""The reference deployment, started by its one command, seen by an identity provider."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import httpx
import pytest

from tests.gateways.programs import DEPLOY, PROGRAMS, SEARCH_PATH, free_port, require
from tests.service import until

pytestmark = pytest.mark.gateway

BIN: Final = Path(sys.executable).parent
TOOLS: Final = dict.fromkeys(("scim2-server", "scim2"), "pip install -r requirements-gateways.txt")
VARIANTS: Final = {"nginx": (), "ledger": ("--without-nginx",)}


@pytest.fixture(scope="module")
def alone() -> Iterator[Sequence[str]]:
    """What the identity provider sees of the backend alone."""
    require(TOOLS)
    port = free_port()
    argv = [str(BIN / "scim2-server"), "--tenant", "scim", "--reverse-proxy", "--port", str(port)]
    with _running(argv) as process:
        url = f"http://127.0.0.1:{port}/scim/v2"
        until(lambda: process.poll() is not None or _answers(url), what="the backend's start")
        yield _session(url, "none")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_identity_provider_sees_no_difference(variant: str, alone: Sequence[str]) -> None:
    with _reference(*VARIANTS[variant]) as found:
        assert _session(found["url"], found["token"]) == alone


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_token_opens_and_addresses_are_the_fronts(variant: str) -> None:
    with _reference(*VARIANTS[variant]) as found, httpx.Client(trust_env=False) as client:
        users = f"{found['url']}/Users"
        assert client.get(users).status_code == 401
        held = {"Authorization": f"Bearer {found['token']}"}
        made = client.post(users, headers=held, json={"schemas": [SCHEMA], "userName": "bjensen"})
        assert made.status_code == 201
        location = made.headers["location"]
        assert location == made.json()["meta"]["location"]
        assert location.startswith(f"{users}/")
        assert client.get(location, headers=held).json() == made.json()


SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:User"


def _session(url: str, token: str) -> Sequence[str]:
    """What scim2-cli and scim2-tester say, call by call."""
    argv = [sys.executable, "-m", "tests.gateways.identity_provider", url]
    given = {**os.environ, "SCIM_CLI_HEADERS": f"Authorization: Bearer {token}"}
    done = subprocess.run(argv, env=given, cwd=DEPLOY.parent, stdout=subprocess.PIPE, check=True)
    told: list[str] = json.loads(done.stdout)
    assert "SUCCESS" in told[-1]
    return told


@contextmanager
def _reference(*arguments: str) -> Iterator[Mapping[str, str]]:
    require(TOOLS | ({} if arguments else PROGRAMS["nginx"]))
    ports = (
        "--port",
        str(free_port()),
        "--ledger-port",
        str(free_port()),
        "--backend-port",
        str(free_port()),
    )
    argv = [sys.executable, str(DEPLOY / "reference" / "run.py"), "--json", *ports, *arguments]
    with _running(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.wait(60)
        found: dict[str, str] = json.loads(line)
        yield found


@contextmanager
def _running(
    argv: Sequence[str], stdout: int | IO[bytes] | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    given = {name: value for name, value in os.environ.items() if not name.startswith("SCIM_LEDGER_")}
    given.pop("DATABASE_URL", None)
    process = subprocess.Popen(
        argv,
        env={**given, "PATH": SEARCH_PATH},
        stdout=stdout or sys.__stderr__,
        stderr=sys.__stderr__,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/Users", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False

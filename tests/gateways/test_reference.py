"""The reference deployment, started by its one command, seen by an identity provider."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from domain.postgres.embedded.server import EmbeddedPostgres
from domain.secret import Pepper
from projections.follow.positions import ensure_live
from projections.registry import PROJECTIONS
from tests.benchmarks.seed import seed
from tests.conftest import new_database
from tests.gateways.programs import DEPLOY, PROGRAMS, SEARCH_PATH, free_port, require
from tests.meanwhile import meanwhile
from tests.service import running_service, until

pytestmark = pytest.mark.gateway

BIN: Final = Path(sys.executable).parent
TOOLS: Final = dict.fromkeys(("scim2-server", "scim2"), "pip install -r requirements-gateways.txt")
VARIANTS: Final = {"nginx": (), "ledger": ("--without-nginx",)}
CLIENTS: Final = 2
PACE_S: Final = 0.02
"""Between two calls of a client: all of them together stay below a token's rate (200 a second),
however fast the machine is."""


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


@pytest.mark.parametrize("base", ["/v2", "/scim/v2"])
def test_an_upstream_that_heeds_the_prefix_names_the_public_address(base: str, server: str) -> None:
    """A22: header and body agree, and the address works,
    whatever the upstream's own path ends with.
    """
    require(TOOLS)
    port = free_port()
    tenant = ["--tenant", "scim"] if base == "/scim/v2" else []
    argv = [str(BIN / "scim2-server"), *tenant, "--reverse-proxy", "--port", str(port)]
    upstream = f"http://127.0.0.1:{port}{base}"
    with _running(argv), new_database(server) as database:
        until(lambda: _answers(upstream), what="the backend's start")
        with running_service(database, environment={"SCIM_UPSTREAM_URL": upstream}) as service:
            ask = {"team_id": str(uuid4()), "name": "behind"}
            made = service.client.post("/scim-token", auth=service.api_token(), json=ask).json()
            held = {"Authorization": f"Bearer {made['token']}"}
            user = {"schemas": [SCHEMA], "userName": "bjensen"}
            created = service.client.post("/scim/v2/Users", headers=held, json=user)
            location = created.headers["location"]
            assert (
                location
                == created.json()["meta"]["location"]
                == created.headers["content-location"]
            )
            assert location.startswith(f"{service.url}/scim/v2/Users/")
            assert service.client.get(location, headers=held).json() == created.json()


@pytest.mark.parametrize("tokens", [10, pytest.param(100_000, marks=pytest.mark.slow)])
def test_it_keeps_serving_while_all_views_are_rebuilt(tokens: int) -> None:
    """An identity provider's calls through nginx, over a ledger of ten events a token:
    not one fails.
    """
    with _seeded(tokens) as data_dir, _reference("--data-dir", str(data_dir)) as found:
        calls = Calls(found["url"], found["token"])
        with calls.going_on():
            before = _projections(data_dir, "list")
            done = _projections(data_dir, "rebuild", "--all")
            after = _projections(data_dir, "list")
        assert calls.done > 10
        assert [each["name"] for each in done] == [projection.name for projection in PROJECTIONS]
        assert _versions(before) == dict.fromkeys(_versions(before), 2), (
            "the seed has rebuilt them once"
        )
        live = [view for view in after if view["state"] == "live"]
        assert _versions(live) == dict.fromkeys(_versions(before), 3)
        assert all(view["head"] >= 10 * tokens for view in live)
        assert all(each["is_good"] for each in _projections(data_dir, "verify"))


class Calls:
    """What an identity provider does all day:
    it creates users, looks them up, changes and deletes them.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._stopping = threading.Event()
        self.done = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """For as long as the block takes, from two clients.

        Raises what went wrong with the first call.
        """
        with meanwhile(
            self._call_on, threads=CLIENTS, has_begun=lambda: self.done > 0, stopping=self._stopping
        ):
            yield

    def _call_on(self, number: int) -> None:
        with httpx.Client(headers=self._headers, timeout=10, trust_env=False) as client:
            while not self._stopping.is_set():
                name = f"bjensen-{number}-{self.done}"
                user = {"schemas": [SCHEMA], "userName": name}
                made = self._call(client, 201, "POST", "", json=user)
                path = f"/{made['id']}"
                assert self._call(client, 200, "GET", path)["userName"] == name
                assert (
                    self._call(client, 200, "PUT", path, json=user | {"displayName": "B"})[
                        "displayName"
                    ]
                    == "B"
                )
                self._call(client, 204, "DELETE", path)
                self._call(client, 404, "GET", path)

    def _call(self, client: httpx.Client, status: int, method: str, path: str, **parts: Any) -> Any:
        answer = client.request(method, f"{self._url}/Users{path}", **parts)
        assert answer.status_code == status, f"{method}: {answer.status_code} {answer.text}"
        self.done += 1
        self._stopping.wait(PACE_S)
        return answer.json() if answer.content else None


@contextmanager
def _seeded(tokens: int) -> Iterator[Path]:
    """The data directory of a ledger with ten events for each of its tokens."""
    base = Path(tempfile.mkdtemp(prefix="scim-ledger-reference-", dir="/tmp"))
    base.chmod(0o711)
    data_dir = base / "ledger"
    try:
        _command(data_dir, "migrate")
        server = EmbeddedPostgres(data_dir)
        server.start()
        try:
            with psycopg.connect(
                server.conninfo(user="scim_ledger", dbname="scim_ledger"), autocommit=True
            ) as app:
                for projection in PROJECTIONS:
                    ensure_live(app, projection)
            owner = server.conninfo(user="postgres", dbname="scim_ledger")
            pepper = Pepper([(data_dir / "pepper").read_bytes()])
            seed(owner, pepper=pepper, tokens=tokens, uses_each=9, secrets=1)
        finally:
            server.stop()
        yield data_dir
    finally:
        shutil.rmtree(base)


def _projections(data_dir: Path, *arguments: str) -> Any:
    return json.loads(_command(data_dir, "projections", *arguments))


def _command(data_dir: Path, *arguments: str) -> bytes:
    argv = [str(BIN / "scim-ledger"), *arguments, "--data-dir", str(data_dir), "--json"]
    done = subprocess.run(argv, env=_environment(), stdout=subprocess.PIPE, check=True)
    return done.stdout


def _versions(views: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    return {view["name"]: view["version"] for view in views}


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
    require(TOOLS | ({} if "--without-nginx" in arguments else PROGRAMS["nginx"]))
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
    process = subprocess.Popen(
        argv,
        env=_environment(),
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


def _environment() -> Mapping[str, str]:
    given = {
        name: value for name, value in os.environ.items() if not name.startswith("SCIM_LEDGER_")
    }
    given.pop("DATABASE_URL", None)
    return {**given, "PATH": SEARCH_PATH}


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/Users", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False

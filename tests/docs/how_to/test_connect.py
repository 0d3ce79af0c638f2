"""The how-tos that connect an identity provider or a gateway do what they say."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.api.expected import create
from tests.docs.documents import ROOT, blocks
from tests.gateways.echo import Recorder, echo_backend
from tests.gateways.programs import PROGRAMS, SEARCH_PATH, free_port, require
from tests.service import RunningService, service_environment, until

DEPLOY: Final = ROOT / "deploy"
PROVIDERS: Final = {"Okta": "okta", "Microsoft Entra": "entra"}
GATEWAYS: Final = "docs/how-to/gateways.md"


def only(word: str, document: str) -> str:
    (script,) = blocks(word, document=document)
    return script


def environment(service: RunningService, **more: str) -> dict[str, str]:
    return service_environment(service.database.app, PATH=SEARCH_PATH, **more)


def run(service: RunningService, script: str, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment(service, **variables),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("provider", ["okta", "entra"])
def test_the_first_call_of_a_provider_is_seen(service: RunningService, provider: str) -> None:
    token = create(service, service.api_token())
    document = f"docs/how-to/{provider}.md"
    assert "scim_token.used" not in run(service, only("test", document), TOKEN_ID=token["id"])
    presented = {"Authorization": f"Bearer {token['token']}"}
    service.client.get("/scim/v2/Users?startIndex=1&count=2", headers=presented)
    assert "scim_token.used" in run(service, only("test", document), TOKEN_ID=token["id"])
    if provider == "entra":
        assert run(service, only("secrets", document), TOKEN_ID=token["id"]).count("Z") >= 2


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_pressed_at_a_provider_has_one_name_everywhere(provider: str) -> None:
    """On its own page, in the console and on the setup page, and where a secret is rotated."""
    page = (ROOT / f"docs/how-to/{PROVIDERS[provider]}.md").read_text("utf-8")
    console = (ROOT / "api/console/templates/providers.html").read_text("utf-8")
    (card,) = [each for each in console.split("<section") if f"<h2>In {provider}" in each]
    rotate = (ROOT / "docs/how-to/rotate-a-secret.md").read_text("utf-8")
    (item,) = re.findall(rf"^- \*\*{provider}\*\*:(.*(?:\n  .*)*)", rotate, re.MULTILINE)
    named = [*re.findall(r"<b>([^<]+)</b>", card), *re.findall(r"\*([^*]+)\*", item)]
    assert {"Provisioning", "Save"} <= {*named}
    assert [name for name in named if f"*{name}*" not in page and f"| {name} |" not in page] == []


@contextmanager
def started(
    service: RunningService, name: str, backend: str, directory: Path
) -> Iterator[dict[str, str]]:
    """The gateway by the block of its name; the ports of the page, and those that are free here."""
    ports = {
        "8080": service.url.rpartition(":")[2],
        "9000": backend.rpartition(":")[2],
        "8000": str(free_port()),
    }
    script = with_ports(only(name, GATEWAYS), ports)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euc", script], cwd=directory, stdout=output, stderr=output,
            env=environment(service, AUTH_PORT=str(free_port()), RUN_DIR=str(directory / "run")),
            start_new_session=True,
        )  # fmt: skip
    try:
        until(
            lambda: is_asking(process, f"http://127.0.0.1:{ports['8000']}"),
            timeout_s=30, what="a 401 of the gateway", tell=log.read_text,
        )  # fmt: skip
        yield ports
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def with_ports(script: str, ports: dict[str, str]) -> str:
    for told, here in ports.items():
        script = script.replace(told, here)
    return script


def is_asking(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None, f"the gateway ended with {process.returncode}"
    try:
        return httpx.get(url, trust_env=False).status_code == 401
    except httpx.TransportError:
        return False


@pytest.mark.gateway
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gateway_starts_and_passes_on_what_the_ledger_says(
    service: RunningService, name: str, tmp_path: Path
) -> None:
    """The words are "nginx", "caddy", "traefik", "haproxy", "envoy" and "check"."""
    require(PROGRAMS[name])
    (tmp_path / "run").mkdir()
    token: dict[str, Any] = create(service, service.api_token())
    recorder = Recorder()
    with (
        echo_backend(recorder) as backend,
        started(service, name, backend, tmp_path) as ports,
    ):
        told = run(
            service,
            with_ports(only("check", GATEWAYS), ports),
            SCIM_TOKEN=token["token"],
            TOKEN_ID=token["id"],
        )
    (reached,) = recorder.to("/scim/v2/Users")
    headers = {header.lower(): value for header, value in reached.headers}
    assert headers["x-scim-team-id"] == token["team_id"]
    assert "authorization" not in headers
    assert "scim_token.used" in told
    assert shlex.split(only(name, GATEWAYS))[:3] == ["scim-ledger", "deploy", "copy"]


@pytest.mark.parametrize("recipe", sorted(each.parent.name for each in DEPLOY.glob("*/run")))
def test_a_program_of_the_system_is_found_by_whoever_starts_a_recipe(
    tmp_path: Path, recipe: str
) -> None:
    """On Debian, nginx and haproxy are where a user's PATH does not lead."""
    lines = (DEPLOY / recipe / "run").read_text().splitlines()
    sourced = lines.index(". ../addresses.sh")
    assert not any(line.startswith("exec ") for line in lines[:sourced])
    users = {"PATH": "/usr/local/bin:/usr/bin:/bin", "RUN_DIR": str(tmp_path)}
    script = f". '{DEPLOY}/addresses.sh' && echo \"$PATH\""
    told = subprocess.run(["sh", "-euc", script], env=users, capture_output=True, check=True)
    assert told.stdout.decode().strip() == f"{users['PATH']}:/usr/sbin"


def test_the_site_of_nginx_is_filled_in(tmp_path: Path) -> None:
    """As `run` fills it in, which sources the same list."""
    environment = {"PATH": SEARCH_PATH, "HOME": str(tmp_path)}
    for script in (only("fillin", GATEWAYS), f". '{DEPLOY}/addresses.sh'\n{FILL_IN}"):
        subprocess.run(["bash", "-euc", script], env=environment, cwd=tmp_path, check=True)
    site = (tmp_path / "scim.conf").read_text()
    assert site == (tmp_path / "as-run.conf").read_text()
    assert "${" not in site
    assert "$http_host" in site or "$remote_addr" in site


FILL_IN: Final = f"fill_in < '{DEPLOY}/nginx/scim.conf.template' > as-run.conf"

"""The setup page beside a gateway: the lines for nginx publish it over https, and nothing else."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.console.browsing import SAME_ORIGIN, secrets_in
from tests.docs.documents import ROOT
from tests.gateways.programs import PROGRAMS, SEARCH_PATH, free_port, require
from tests.service import running_service, until

pytestmark = pytest.mark.gateway

DOCUMENT: Final = ROOT / "docs/how-to/hand-over-to-a-customer.md"
BASE_URL: Final = "https://gateway.example.com/scim/v2"
SITE: Final = """daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  upstream scim_ledger {{ server {ledger}; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    location / {{ return 418; }}
{lines}
  }}
}}
"""


@contextmanager
def published(ledger: str, directory: Path) -> Iterator[httpx.Client]:
    """The lines of the how-to in an nginx with a certificate of its own."""
    require({**PROGRAMS["nginx"], "openssl": "apt-get install openssl"})
    (lines,) = re.findall(r"```nginx setup\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    port = free_port()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=gateway", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=directory,
        capture_output=True,
        check=True,
    )
    (directory / "nginx.conf").write_text(SITE.format(ledger=ledger, port=port, lines=lines))
    nginx = shutil.which("nginx", path=SEARCH_PATH)
    assert nginx is not None
    process = subprocess.Popen([nginx, "-p", directory, "-c", "nginx.conf"])
    url = f"https://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, verify=False, trust_env=False) as client:
            until(lambda: answers(client), what="nginx")
            yield client
    finally:
        process.terminate()
        process.wait(10)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code > 0
    except httpx.TransportError:
        return False


def test_a_contact_opens_it_through_the_gateway(database: Database, tmp_path: Path) -> None:
    settings = {
        "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1",
        "SCIM_LEDGER_SCIM_BASE_URL": BASE_URL,
    }
    with running_service(database, environment=settings) as service:
        admin = service.api_token()
        ask = {"team_id": str(uuid4()), "name": "Okta"}
        token = service.client.post("/scim-token", json=ask, auth=admin).json()
        made = service.client.post(f"/scim-token/{token['id']}/setup-link", auth=admin).json()
        link = made["url"].removeprefix(service.url)
        with published(service.url.removeprefix("http://"), tmp_path) as contact:
            host = {"Host": "gateway.example.com"}
            page = contact.get(link, headers=host)  # a browser that says nothing of itself
            assert page.status_code == 200
            assert "Show the token" in page.text
            assert BASE_URL in page.text
            (style,) = re.findall(r'href="([^"]+\.css)"', page.text)
            assert contact.get(style).status_code == 200
            shown = contact.post(link, headers={**host, **SAME_ORIGIN})
            assert len(secrets_in(shown.text)) == 1
            for inside in ("/console/sign-in", "/console/tokens", "/scim-token", "/docs"):
                assert contact.get(inside).status_code == 418, inside

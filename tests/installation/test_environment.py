"""The environment of a service: what its libraries would read there changes nothing."""

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import uuid4

import httpx
import pytest
from packaging.requirements import Requirement

from domain.api_token.permissions import Permission
from tests.conftest import Database
from tests.service import COMMAND, running_service, service_environment

pytestmark = pytest.mark.long

EXTRAS: Final = ("", "binary", "leaks", "traces")
READ: Final = re.compile(
    r"""(?:environ(?:\.get|\.pop|\.setdefault)?|getenv)\s*[(\[]\s*["'](\w+)["']"""
    r"""|["'](\w+)["']\s+(?:not\s+)?in\s+os\.environ"""
)
"""A variable that a module reads by its name."""
OUR_OWN: Final = frozenset({"DATABASE_URL", "HOME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE"})
"""Of the system and of ours: that they count is meant. So does what libpq reads, from PG on."""


def distributions(name: str, found: set[str]) -> set[str]:
    """What is installed with a distribution, and itself."""
    if name not in found:
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            asked = Requirement(line)
            if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in EXTRAS):
                distributions(re.sub("[-_.]+", "-", asked.name).lower(), found)
    return found


def variables() -> Iterator[str]:
    """Every variable that the modules of our dependencies read by its name."""
    for distribution in distributions("scim-ledger", set()) - {"scim-ledger"}:
        for file in importlib.metadata.files(distribution) or ():
            if file.suffix == ".py":
                for match in READ.finditer(file.read_text("utf-8")):
                    yield match[1] or match[2]


def environment(value: str) -> Mapping[str, str]:
    names = {name for name in variables() if name not in OUR_OWN and not name.startswith("PG")}
    assert {"LITESTAR_PDB", "PSYCOPG_IMPL", "TZINFO_TOPIC", "WEB_CONCURRENCY"} <= names
    return {**dict.fromkeys(sorted(names), value), "LITESTAR_DEBUG": value}


def documented(url: str, headers: Mapping[str, str]) -> object:
    answer = httpx.get(f"{url}/docs/openapi.json", headers=headers, trust_env=False)
    return answer.raise_for_status().json()


@pytest.mark.parametrize("value", ["1", "nonsense", ""])
def test_a_service_is_the_same_whatever_its_libraries_would_read(
    database: Database, value: str
) -> None:
    with running_service(database) as plain:
        told = documented(plain.url, {})
    with running_service(database, environment=environment(value)) as service:
        assert documented(service.url, {}) == told
        caller, team = service.api_token(Permission.SCIM_TOKENS_WRITE), str(uuid4())
        body = {"team_id": team, "name": "Okta"}
        made = service.client.post("/scim-token", json=body, auth=caller)
        assert made.status_code == 201
        bearer = {"Authorization": f"Bearer {made.json()['token']}"}
        assert service.client.get("/gateway/forward", headers=bearer).status_code == 200
        assert service.client.get("/nothing", auth=caller, timeout=5).status_code == 404
        bad = service.client.post("/scim-token", json={"name": 1}, auth=caller, timeout=5)
        assert bad.status_code == 400
        assert "pdb" not in service.log.read_text().lower()


@pytest.mark.parametrize("value", ["1", "nonsense", ""])
def test_so_is_a_command(database: Database, value: str) -> None:
    given = service_environment(database.app)
    plain, other = (
        subprocess.run(
            [COMMAND, "audit", "list"],
            env=given | more,
            capture_output=True,
            text=True,
            check=False,
        )
        for more in (dict[str, str](), dict(environment(value)))
    )
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (other.returncode, other.stderr, other.stdout) == (0, "", plain.stdout)

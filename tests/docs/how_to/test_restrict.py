"""docs/how-to/restrict-to-networks.md does what it says, on a service of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.conftest import Database
from tests.docs.documents import blocks
from tests.service import RunningService, running_service, service_environment

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/restrict-to-networks.md"
THEIRS: Final = "192.0.2.0/24"
"""A network of the page; none of its has an address of this machine."""


def run(service: RunningService, script: str, **variables: str) -> str:
    """What a script prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    given = service_environment(service.database.app, PATH=path, URL=service.url, **variables)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_token_is_restricted_and_let_in_from_anywhere_again(database: Database) -> None:
    with running_service(database) as service:
        api_token = service.api_token(Permission.SCIM_TOKENS_READ, Permission.SCIM_TOKENS_WRITE)
        new = {"team_id": str(uuid4()), "name": "Okta"}
        made = service.client.post("/scim-token", json=new, auth=api_token).json()

        def told(word: str, here: str = THEIRS) -> str:
            (script,) = blocks(word, document=DOCUMENT)
            script = script.replace(THEIRS, here)
            return run(service, script, TOKEN=made["id"], API_TOKEN=api_token.secret)

        def presented() -> int:
            bearer = {"Authorization": f"Bearer {made['token']}"}
            return service.client.get("/scim/v2/Users", headers=bearer).status_code

        assert presented() == 501
        looked = told("set")
        assert THEIRS in looked
        assert "127.0.0.1" in looked, "which would be refused"
        assert presented() == 401
        networks = json.loads(told("http", "127.0.0.0/8"))["networks"]
        assert networks == ["127.0.0.0/8", "2001:db8::/32"]
        assert presented() == 501
        told("http")
        assert presented() == 401
        history = told("refused")
        assert history.count("scim_token.networks_set") == 3
        assert "network" in history.replace("networks_set", "")
        told("lift")
        assert presented() == 501

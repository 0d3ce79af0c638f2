"""docs/how-to/give-an-api-token.md does what it says, on a service of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from domain.api_token.permissions import Permission
from tests.conftest import Database
from tests.docs.documents import blocks
from tests.service import RunningService, running_service, service_environment

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/give-an-api-token.md"


def run(service: RunningService, word: str, **variables: str) -> Any:
    """What the block of a word prints."""
    (script,) = blocks(word, document=DOCUMENT)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    given = service_environment(service.database.app, PATH=path, URL=service.url, **variables)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout if word == "operator" else json.loads(done.stdout)


def test_a_token_is_made_looked_at_rotated_and_revoked(database: Database) -> None:
    with running_service(database) as service:
        api_token = service.api_token(
            *(Permission.API_TOKENS_MANAGE, Permission.SCIM_TOKENS_READ),
            Permission.SCIM_TOKENS_WRITE,
        ).secret
        made = run(service, "create", API_TOKEN=api_token)
        told = run(service, "whoami", NEW_API_TOKEN=made["token"])
        assert told == {name: made[name] for name in told}
        listed = run(service, "list", API_TOKEN=api_token)["result"]
        assert made["id"] in {each["id"] for each in listed}
        rotated = run(service, "rotate", API_TOKEN=api_token, TOKEN_ID=made["id"])
        for secret in (made["token"], rotated["token"]):
            assert run(service, "whoami", NEW_API_TOKEN=secret) == told
        assert run(service, "revoke", API_TOKEN=api_token, TOKEN_ID=made["id"]) == {
            "id": made["id"]
        }
        assert made["id"] in run(service, "operator", TOKEN_ID=listed[-1]["id"])

"""Clients that programs make from the OpenAPI document do the documented calls."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.conftest import Database
from tests.docs.documents import blocks
from tests.gateways.programs import SEARCH_PATH, require
from tests.service import RunningService, running_service

pytestmark = pytest.mark.long

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = {**os.environ, "PATH": SEARCH_PATH}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generate(word: str, service: RunningService, directory: Path) -> None:
    """As the how-to says."""
    (script,) = blocks(word, document="docs/how-to/generate-a-client.md")
    run("bash", "-euo", "pipefail", "-c", script, cwd=directory, URL=service.url)


def expected(seen: dict[str, Any], *, user: str) -> dict[str, Any]:
    return {
        "user": user,
        "token_id": seen["token_id"],
        "is_shown_once": True,
        "names": ["Okta provisioning"],
        "has_two_secrets": True,
        "is_active": True,
        "refused": "/problems/used-since",
        "revoked": seen["token_id"],
        "gone": "/problems/not-found",
        "kinds": seen["kinds"],
        "pointers": ["/name"],
    }


def has_all_that_happened(kinds: list[str]) -> bool:
    happened = ("created", "rotated", "used", "revoked")
    return {f"scim_token.{each}" for each in happened} <= set(kinds)


def test_a_client_in_python(database: Database, tmp_path: Path) -> None:
    """Nothing of the document is left out: a warning of the generator is an error."""
    with running_service(database) as service:
        admin = service.api_token()
        generate("python", service, tmp_path)
        calls = HERE / "python_calls.py"
        told = run(
            *(sys.executable, calls, service.url, admin.secret, str(uuid4())),
            cwd=tmp_path,
            PYTHONPATH=str(tmp_path),
        )
    seen = json.loads(told)
    assert seen == expected(seen, user=str(admin.user_id))
    assert has_all_that_happened(seen["kinds"])


def test_a_client_in_typescript(database: Database, tmp_path: Path) -> None:
    """Its types are checked before it runs."""
    require(dict.fromkeys(("node", "npm"), "apt-get install nodejs npm"))
    here = tmp_path / "typescript"
    shutil.copytree(HERE / "typescript", here)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=here)
    with running_service(database) as service:
        admin = service.api_token()
        generate("typescript", service, here)
        run(here / "node_modules" / ".bin" / "tsc", cwd=here)
        calls = "built/calls.js"
        told = run("node", calls, service.url, admin.secret, str(uuid4()), cwd=here)
    seen = json.loads(told)
    assert seen == expected(seen, user=str(admin.user_id))
    assert has_all_that_happened(seen["kinds"])


def test_the_lock_file_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads((HERE / "typescript" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 3
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
    asked = json.loads((HERE / "typescript" / "package.json").read_text())["devDependencies"]
    assert all(version[0].isdigit() for version in asked.values())

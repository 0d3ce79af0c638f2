"""A fuzzer that knows nothing of us but the OpenAPI document finds nothing that it does not say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Database
from tests.service import running_service

pytestmark = pytest.mark.gateway

HERE: Final = Path(__file__).parent
LEAST: Final = 2000
"""Requests, fewer than the examples come to that the settings ask for of each operation: how many
there are must not hang on how fast the machine is."""
AT_MOST_S: Final = 600
"""It ends by itself long before, on a slow machine, too."""


def test_what_a_fuzzer_makes_of_the_document(database: Database, tmp_path: Path) -> None:
    """Good and bad values of everything, in any order, with and without a token: each answer is one
    of the document, what breaks a schema is refused, nothing is an error of ours, and what was
    revoked is gone.
    """
    pytest.importorskip("schemathesis", reason="needs requirements-gateways.txt")
    with running_service(database) as service:
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "--no-color"),
                *("--config-file", HERE / "schemathesis.toml", "run", "--continue-on-failure"),
                *("--report-json-path", tmp_path / "report.json"),
                f"{service.url}/docs/openapi.json",
            ],
            env={
                **os.environ,
                "API_TOKEN": service.api_token().secret,
                "REPORTS": str(tmp_path),
                "SCHEMATHESIS_HOOKS": str(HERE / "fresh_keys.py"),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=AT_MOST_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["operations"]["tested"] == report["operations"]["total"] > 40
        assert report["test_cases"]["generated"] > LEAST
        assert service.client.get("/readyz").json()["status"] == "ready"
        logged = service.log.read_text().splitlines()
    assert [line for line in logged if '"level": "error"' in line] == []

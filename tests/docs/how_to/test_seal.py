"""docs/how-to/seal-the-ledger.md does what it says."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.conftest import Database
from tests.docs.documents import blocks
from tests.projections.test_ledger_check import fill
from tests.service import service_environment

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/seal-the-ledger.md"


def run(database: Database, place: Path, word: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (script,) = blocks(word, document=DOCUMENT)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=service_environment(database.app, PATH=path),
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_ledger_is_sealed_and_compared(database: Database, tmp_path: Path) -> None:
    asyncio.run(fill(database))
    assert run(database, tmp_path, "seal").returncode == 0
    asyncio.run(fill(database))
    for _ in range(2):
        assert run(database, tmp_path, "seal").returncode == 0
    assert len((tmp_path / "seals.txt").read_text().splitlines()) == 3
    compared = run(database, tmp_path, "compare")
    assert (compared.returncode, compared.stderr) == (0, "")
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "UPDATE ledger.events SET at = at + interval '1 microsecond' "
            "WHERE notification_id = (SELECT max(notification_id) FROM ledger.events)"
        )
    compared = run(database, tmp_path, "compare")
    assert compared.returncode == 1
    assert "damage: events 9 to 16: they are not those that were sealed" in compared.stdout

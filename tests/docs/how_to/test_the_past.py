"""docs/how-to/seal-the-ledger.md and archive.md do what they say."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.api.cli.test_commands import TEAM, USER, told
from tests.conftest import Database
from tests.docs.documents import blocks
from tests.projections.archive.archiving import HOUR, TOKENS, facts
from tests.projections.history import given
from tests.projections.test_ledger_check import fill
from tests.service import service_environment

pytestmark = pytest.mark.long

SEAL: Final = "docs/how-to/seal-the-ledger.md"
ARCHIVE: Final = "docs/how-to/archive.md"
USES: Final = 12


def run(
    database: Database, place: Path, word: str, *, document: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (script,) = blocks(word, document=document)
    environment = service_environment(
        database.app,
        PATH=path,
        SCIM_LEDGER_OWNER_DATABASE_URL=database.owner,
        TOKEN_ID=str(TOKENS[0]),
        KEPT_DAYS="730",
    )
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment, cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_ledger_is_sealed_and_compared(database: Database, tmp_path: Path) -> None:
    asyncio.run(fill(database))
    assert run(database, tmp_path, "seal", document=SEAL).returncode == 0
    asyncio.run(fill(database))
    for _ in range(2):
        assert run(database, tmp_path, "seal", document=SEAL).returncode == 0
    assert len((tmp_path / "seals.txt").read_text().splitlines()) == 3
    compared = run(database, tmp_path, "compare", document=SEAL)
    assert (compared.returncode, compared.stderr) == (0, "")
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "UPDATE ledger.events SET at = at + interval '1 microsecond' "
            "WHERE notification_id = (SELECT max(notification_id) FROM ledger.events)"
        )
    compared = run(database, tmp_path, "compare", document=SEAL)
    assert compared.returncode == 1
    assert "damage: events 9 to 16: they are not those that were sealed" in compared.stdout


def test_old_uses_leave_and_are_found_in_the_files(database: Database, tmp_path: Path) -> None:
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * USES))
    told(database.app, "token", "create", "--team", TEAM, "--user", USER, "--name", "Okta")
    (tmp_path / "archive").mkdir()
    for word, said in (
        ("plan", f"removed: {USES - 2}\nis_done: False\n"),
        ("remove", f"removed: {USES - 2}\nis_done: True\n"),
        ("compare", f"damage: -\narchived: {USES - 2}\n"),
    ):
        done = run(database, tmp_path, word, document=ARCHIVE)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    found = run(database, tmp_path, "ask", document=ARCHIVE).stdout.splitlines()
    assert len(found) == 1 + USES
    assert run(database, tmp_path, "rebuild", document=ARCHIVE).returncode == 0
    (file,) = (tmp_path / "archive").glob("*.gz")
    for days_ago, said in ((729, f"archived: {USES - 2}\n"), (731, "deleted_files: 1\n")):
        at = time.time() - timedelta(days=days_ago, hours=1).total_seconds()
        os.utime(file, (at, at))
        done = run(database, tmp_path, "delete", document=ARCHIVE)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(said)
    assert not file.exists()

"""`scim-ledger recover`, cut off at its last step: it and its repeat say that it is done."""

import subprocess
from pathlib import Path
from uuid import uuid4

from domain.eventstore.known_head.head_file import HeadFile
from domain.losses.declared import KnownEvent
from tests.conftest import Database
from tests.service import COMMAND, service_environment

DECLARE = f"exec {COMMAND} recover --declare-loss --reason 'the disk broke'"


def test_a_declaration_whose_head_file_cannot_be_written_says_that_it_is_done(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "head.json"
    known = KnownEvent(1000, uuid4(), 7, uuid4())
    HeadFile(path).write(known)

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", script],
            env=service_environment(database.app, SCIM_LEDGER_HEAD_FILE=str(path)),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    done = run(f"ulimit -f 0; {DECLARE}")
    assert (done.returncode, HeadFile(path).read()) == (0, known), done.stderr
    assert "this is done, but the head file does not name it" in done.stderr
    assert "revoke again what was revoked since" in done.stdout

    again = run(DECLARE)
    assert again.returncode == 1
    assert "nothing is lost" in again.stderr
    assert "a loss was declared at " in again.stderr
    assert "revoke again what was revoked" in again.stderr

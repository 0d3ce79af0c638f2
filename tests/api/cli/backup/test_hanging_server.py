"""PostgreSQL's own program waits for a server that hangs, and says nothing of it."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg
import pytest

from api.cli.backup import _run
from domain.postgres.embedded.programs import installed_programs
from domain.postgres.trouble import lost_session
from domain.postgres.trouble.lost_session import AnswerLost
from tests.faults.own_server import postmaster_pid, process_tree, send
from tests.faults.standby import cluster
from tests.service import until

SOON_S: Final = 0.3
WITHIN_S: Final = 30.0
AT_IT: Final = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_dump'"


@pytest.mark.long
def test_it_ends_once_another_server_has_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LATE_S", "_ASKED_EVERY_S"):
        monkeypatch.setattr(lost_session, name, SOON_S)
    with (
        ThreadPoolExecutor(1) as thread,
        cluster() as pair,
        closing(psycopg.connect(pair.primary.conninfo)) as holding,
    ):
        holding.execute("LOCK TABLE ledger.secrets IN ACCESS EXCLUSIVE MODE")
        told = ("--format=custom", f"--file={tmp_path / 'dump'}", "--schema=ledger")
        program = installed_programs() / "pg_dump"
        running = thread.submit(_run, program, pair.database.owner, *told, remedy="")
        until(lambda: bool(pair.primary.ask(AT_IT)), what="the dump")
        time.sleep(10 * SOON_S)  # so that it is seen
        hanging = process_tree(postmaster_pid(pair.primary.embedded.base_dir))
        send(hanging, signal.SIGSTOP)
        try:
            pair.promote()
            with pytest.raises(AnswerLost):
                running.result(WITHIN_S)
        finally:
            pair.kill_primary()  # else it waits

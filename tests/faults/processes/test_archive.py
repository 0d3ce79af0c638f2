"""Old uses leave the ledger while the doors are in use and the command is killed again and again:
nobody is let in unrecorded, no door waits, and nothing of the past is lost.
"""

import asyncio
import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from random import uniform
from typing import Final

import psycopg
import pytest

from domain.secret import Pepper
from projections.archive.check import check_archive
from projections.ledger_check import check_ledger
from projections.ledger_seal import check_seals, seal_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from tests.benchmarks import seed as seeding
from tests.conftest import Database, catch_up
from tests.faults.use_load import Load, populate
from tests.presenting import FORWARD, NGINX, UNLIMITED, VERIFY, Verdict
from tests.raw_http import run
from tests.service import COMMAND, PEPPER_KEY, running_service, service_environment

pytestmark = pytest.mark.long

TOKENS, USES_EACH = 600, 99
DOORS: Final = (NGINX, FORWARD, VERIFY)
KILLS: Final = 6
ENDS_WITHIN_S: Final = 240


@pytest.fixture
def old(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A ledger of two years, of which the last three hundred days were silent."""
    monkeypatch.setattr(seeding, "_AGE", timedelta(days=730))
    monkeypatch.setattr(seeding, "_STEP", timedelta(hours=12))
    seeding.seed(
        database.owner,
        pepper=Pepper([PEPPER_KEY.encode()]),
        tokens=TOKENS,
        uses_each=USES_EACH,
        secrets=10,
    )
    return database


def archive(database: Database, directory: Path, *, killed_after_s: float | None) -> bool:
    """One run of the command; whether it came to its end."""
    environment = service_environment(database.app, SCIM_LEDGER_OWNER_DATABASE_URL=database.owner)
    line = [COMMAND, "archive", str(directory), "--older-than-days", "90", "--remove"]
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait(ENDS_WITHIN_S if killed_after_s is None else killed_after_s) == 0
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            return False


def killed_and_repeated(database: Database, directory: Path) -> int:
    """How often it was killed before it came to its end."""
    started = time.monotonic()
    assert archive(database, directory / "measured", killed_after_s=None) is False  # no directory
    to_begin_s = time.monotonic() - started
    for number in range(KILLS):
        after_s = to_begin_s + uniform(0.1, 0.8) * (number + 1)
        if archive(database, directory, killed_after_s=after_s):
            return number
        with psycopg.connect(database.app, autocommit=True) as app:
            assert check_ledger(app).damage is None
            assert check_archive(app, directory) is None
    assert archive(database, directory, killed_after_s=None)
    return KILLS


def test_doors_go_on_and_nothing_is_lost(old: Database, tmp_path: Path) -> None:
    with psycopg.connect(old.app, autocommit=True) as app:
        ((before,),) = app.execute("SELECT count(*) FROM ledger.events").fetchall()
        kept = [seal_ledger(app)]

    async def main(url: str) -> Load:
        population = await populate(old, size=40)
        load = Load(url, population, DOORS)
        async with load.running():
            kills = await asyncio.to_thread(killed_and_repeated, old, tmp_path)
            await load.answered(200)
        assert kills > 0
        return load

    with running_service(old, environment=UNLIMITED) as service:
        load = run(lambda: main(service.url))
        load.check(old)
        told = f"{load.calls} answers, {load.count(Verdict.UNAVAILABLE)} of them 503"
        assert load.count(Verdict.UNAVAILABLE) * 1000 <= load.calls, told
    catch_up(old)
    with psycopg.connect(old.app, autocommit=True) as app:
        checked = check_ledger(app)
        assert checked.damage is None
        assert checked.archived == before - TOKENS * 3  # creation, first and last use
        assert check_seals(app, kept) is None
        assert check_archive(app, tmp_path, kept) is None
        assert [check_view(app, each) for each in PROJECTIONS] == [None] * len(PROJECTIONS)

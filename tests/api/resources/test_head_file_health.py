"""`/readyz` tells of a head file that cannot be used or is not kept, before anybody is refused."""

import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from domain.eventstore.known_head import requirement
from domain.eventstore.known_head.requirement import watched
from tests.conftest import Database
from tests.domain.eventstore.known_head.restored import append, known_by, letting_in
from tests.service import running_service, until


def gone(path: Path) -> None:
    shutil.rmtree(path.parent)


def without_rights(path: Path) -> None:
    path.parent.chmod(0o500)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbage(path: Path) -> None:
    path.write_text("a pepper, for instance")


def long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(10_000))


HARMS: Final[dict[Callable[[Path], None], str]] = {
    gone: "cannot be written: make the directory",
    a_directory: "cannot be read: there is a directory",
    garbage: "is not one; if it is there for something else, leave it",
    long: "is not one; if it is there for something else, leave it",
}
if os.geteuid() != 0:  # whom no right keeps out
    HARMS[without_rights] = "cannot be written: make the directory"


def readiness(client: httpx.Client) -> tuple[int, dict[str, Any]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()


@pytest.mark.long
def test_each_harm_is_told_while_the_doors_go_on_and_its_end_too(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "host" / "head.json"
    path.parent.mkdir()
    append(database)
    environment = {"SCIM_LEDGER_HEAD_FILE": str(path), "SCIM_LEDGER_PUBLIC_METRICS": "true"}
    with running_service(database, environment=environment) as service:
        for harm, said in HARMS.items():
            until(path.is_file, what="the file")
            kept = path.read_bytes()
            harm(path)
            until(lambda: readiness(service.client)[1]["status"] == "degraded", what=harm.__name__)
            status, told = readiness(service.client)
            assert status == 200, "whoever is let in, still is"
            assert said in told["problems"][0], harm
            figures = service.client.get("/metrics").text
            assert 'scim_ledger_problem{cause="head_file"} 1' in figures
            if path.is_dir():
                path.rmdir()
            path.parent.mkdir(exist_ok=True)
            path.parent.chmod(0o700)
            path.write_bytes(kept)
            until(lambda: readiness(service.client)[1]["status"] == "ready", what="the end")


def test_a_file_that_lags_is_told(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hinders it: nobody keeps this one."""
    path = tmp_path / "head.json"
    append(database)
    known_by(path, database)
    append(database)
    monkeypatch.setattr(requirement, "EVERY_S", 0.01)

    async def told(after: timedelta) -> str:
        monkeypatch.setattr(requirement, "NOT_KEPT_AFTER", after)
        async with letting_in(database, path) as ledger, watched(ledger.known_head, ledger.reads):
            await asyncio.sleep(0.5)
            return ledger.known_head[0].not_kept

    assert asyncio.run(told(timedelta(minutes=1))) == ""
    assert "is not kept up, it knows of event 1 at most" in asyncio.run(told(timedelta(0)))
    known_by(path, database)
    assert asyncio.run(told(timedelta(0))) == ""

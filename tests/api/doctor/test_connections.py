"""How many connections a service takes is what the doctor counts and the pages tell."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from api.doctor.server import CONNECTIONS_BESIDES, CONNECTIONS_PER_WORKER
from domain.postgres.read_pool import ReadPool
from projections.described import rfc3339
from tests.api.expected import create, use
from tests.conftest import Database, now
from tests.docs.documents import ROOT
from tests.service import RunningService, running_service, until

OF_A_COMMAND: Final = 3
WRITTEN_OUT: Final = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
PAGES: Final = {
    "docs/how-to/own-postgresql.md": (
        r"Give each worker (\d+) connections \((\w+) append, (\w+) read\) and each `serve` (\d+) "
        r"more \(its projection process has (\w+), a command\s+beside it up to (\w+)\)"
    ),
    "docs/how-to/sizing.md": (
        r"^(\d+) to PostgreSQL for each worker and (\d+) more for each `serve`: (\d+) with two"
    ),
    "docs/how-to/monitor.md": r"too many readers for (\w+) connections a\s+worker",
}
READS: Final = ReadPool("").size
TOLD: Final = {
    "docs/how-to/own-postgresql.md": [
        *(CONNECTIONS_PER_WORKER, CONNECTIONS_PER_WORKER - READS, READS),
        *(CONNECTIONS_BESIDES, CONNECTIONS_BESIDES - OF_A_COMMAND, OF_A_COMMAND),
    ],
    "docs/how-to/sizing.md": [
        *(CONNECTIONS_PER_WORKER, CONNECTIONS_BESIDES),
        2 * CONNECTIONS_PER_WORKER + CONNECTIONS_BESIDES,
    ],
    "docs/how-to/monitor.md": [READS],
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_what_the_doctor_counts(page: str) -> None:
    found = re.search(PAGES[page], (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert found is not None
    numbers = [WRITTEN_OUT.get(each) or int(each) for each in found.groups()]
    assert numbers == TOLD[page]


def in_use(service: RunningService) -> int:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
    ((count,),) = service.query(statement + "application_name LIKE 'scim-ledger%%'")
    assert isinstance(count, int)
    return count


@pytest.mark.long
def test_a_busy_service_takes_all_of_them_and_no_more(database: Database, tmp_path: Path) -> None:
    """All but those of a command: workers that read, use and append, and views that tell."""
    head_file = {"SCIM_LEDGER_HEAD_FILE": str(tmp_path / "head.json")}
    most = CONNECTIONS_PER_WORKER + CONNECTIONS_BESIDES - OF_A_COMMAND
    with running_service(database, environment=head_file) as service:
        caller = service.api_token()
        ending = rfc3339(now() + timedelta(days=3))
        secret = create(service, caller, expires_at=ending)["token"]
        body = {"team_id": str(uuid4()), "name": "Okta"}

        def ask(number: int) -> int:
            if number % 8 == 0:
                return service.client.post("/scim-token", json=body, auth=caller).status_code
            if number % 8 == 1:
                return use(service, secret).status_code
            return service.client.get("/scim-token", auth=caller).status_code

        def takes_all() -> bool:
            assert {*asked.map(ask, range(64))} <= {200, 201, 501}
            assert in_use(service) <= most
            return in_use(service) == most

        with ThreadPoolExecutor(16) as asked:
            until(takes_all, timeout_s=60, what="the last", tell=lambda: str(in_use(service)))

"""The metric of rounds of warnings: by the one service that tells them, and beyond a process."""

import os
import signal
from datetime import timedelta

import httpx
import psycopg
import pytest

from api.telemetry.catalogue import QUESTIONS, WARNINGS_ROUND
from api.telemetry.pages import Pages, new_pages, warnings_since
from domain.postgres.read_pool import ReadPool
from projections.warnings.due import DueWarnings
from tests.api.telemetry.samples import Scrape
from tests.conftest import Database, catch_up, now
from tests.domain.scenario import created
from tests.projections.given_events import record
from tests.service import RunningService, running_service, until

ENVIRONMENT = {"SCIM_LEDGER_PUBLIC_METRICS": "true"}
LATE_S = 5
"""More than two rounds are apart."""


def age_s(service: RunningService, question: str) -> float:
    scrape = Scrape(httpx.get(f"{service.url}/metrics", timeout=10, trust_env=False))
    return scrape.value(WARNINGS_ROUND.name, question=question)


def test_each_question_has_its_series(database: Database) -> None:
    assert set(DueWarnings(ReadPool(database.app)).questions) == set(QUESTIONS)


def test_what_the_projection_process_tells_stands_on_no_workers_page() -> None:
    fd = new_pages(2)
    assert fd is not None
    warnings_since(fd)["silences"].set(7)
    workers = [Pages(fd, number) for number in (1, 2)]
    assert warnings_since(fd)["silences"].value == 7
    assert workers[0].sums().count(7) == 1
    assert all(7 not in page.own.tolist() for page in workers)
    os.close(fd)


@pytest.mark.long
def test_the_leader_tells_that_a_walk_fails_and_its_successor_does_too(database: Database) -> None:
    token_id = record(database, created(now() - timedelta(days=100)))
    catch_up(database)
    with psycopg.connect(database.owner) as owner:
        owner.execute("DELETE FROM ledger.aggregates WHERE originator_id = %s", [token_id])
    with running_service(database, workers=2, environment=ENVIRONMENT) as leader:
        until(lambda: age_s(leader, "silences") > LATE_S, timeout_s=30, what="a late walk")
        until(lambda: age_s(leader, "ends") <= LATE_S, what="a round of another question")
        with running_service(database, environment=ENVIRONMENT) as follower:
            assert [age_s(follower, question) for question in QUESTIONS] == [0] * len(QUESTIONS)
        before, first = age_s(leader, "silences"), leader.program_pids()["projections"]
        os.kill(first, signal.SIGKILL)
        until(lambda: leader.program_pids()["projections"] != first, what="another process")
        until(lambda: age_s(leader, "silences") > before + LATE_S, timeout_s=30, what="later still")
        until(lambda: age_s(leader, "ends") <= LATE_S, what="a round of another")

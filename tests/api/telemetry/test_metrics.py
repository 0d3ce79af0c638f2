"""`/metrics`: one answer for all workers, true to its reference; nothing that a client sends."""

import os
import re
import signal
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest
from litestar.testing import TestClient

from api.app import build
from api.settings import Settings
from api.telemetry import catalogue
from api.telemetry.catalogue import AUTHENTICATIONS, CELLS, COUNTED, FIRST_CELLS
from api.telemetry.exposition import counted
from api.telemetry.instruments import Instruments
from api.telemetry.pages import Pages, new_pages
from api.telemetry.routes import route_of
from domain.secret import SecretKind, mint
from tests.api.telemetry.hostile import NEVER_TOLD, send_all
from tests.api.telemetry.samples import Scrape, families, label_values
from tests.api.trail import text
from tests.conftest import new_database, now
from tests.service import PEPPER_KEY, Caller, RunningService, running_service, until

REFERENCE: Final = Path(__file__).parents[3] / "docs/reference/metrics.md"
ROW: Final = re.compile(r"^\| `(scim_ledger_\w+)`(?: \*)? \| (\w+) \| ([^|]*)\| \S", re.MULTILINE)
VALUES: Final = re.compile(r"^\| `(\w+)` \| ([^|]+) \|$", re.MULTILINE)
OPEN: Final = {"projection", "version", "shape", "python", "le"}
"""Labels whose values are ours and change with a release or a rebuild."""
GATEWAY: Final = "/gateway/forward"


@pytest.fixture(scope="module")
def watched(server: str) -> Iterator[RunningService]:
    """Two workers, and metrics for everybody."""
    settings = {"SCIM_LEDGER_PUBLIC_METRICS": "true", "SCIM_LEDGER_RATE_PER_TOKEN": "5"}
    with (
        new_database(server) as database,
        running_service(database, workers=2, environment=settings) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def operator(watched: RunningService) -> Caller:
    return watched.api_token()


def scrape(service: RunningService) -> Scrape:
    """On a connection of its own, so by any worker."""
    return Scrape(httpx.get(f"{service.url}/metrics", timeout=10, trust_env=False))


def issue(service: RunningService, caller: Caller, **more: object) -> tuple[str, str]:
    """Id and secret of a new token."""
    body = {"team_id": str(uuid4()), "name": "watched", **more}
    made = service.client.post("/scim-token", json=body, auth=caller)
    assert made.status_code == 201
    return made.json()["id"], made.json()["token"]


def present(service: RunningService, secret: str) -> int:
    """On a connection of its own."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return httpx.get(
        service.url + GATEWAY, headers=headers, timeout=10, trust_env=False
    ).status_code


def test_the_reference_is_what_is_answered(watched: RunningService, operator: Caller) -> None:
    issue(watched, operator)
    found = scrape(watched)
    answered = {
        family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in found.families
    }
    told = REFERENCE.read_text("utf-8")
    documented = {
        name: (type_, set(re.findall(r"`(\w+)`", labels)))
        for name, type_, labels in ROW.findall(told)
    }
    assert answered == documented
    listed = {
        label: set(re.findall(r"`([\w-]+)`", re.sub(r"`scim_ledger_\w+`", "", values)))
        for label, values in VALUES.findall(told)
    }
    given = label_values(found.families)
    assert {label: given[label] for label in given.keys() - OPEN} == listed


def test_names_follow_the_conventions(watched: RunningService) -> None:
    for family in scrape(watched).families:
        assert family.name.startswith("scim_ledger_")
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.documentation


@pytest.mark.long
def test_the_counts_of_two_workers_add_up_and_outlive_them(
    watched: RunningService, operator: Caller
) -> None:
    _, secret = issue(watched, operator)
    accepted = {"door": "forward", "outcome": "accepted", "reason": "good"}

    def count() -> float:
        return scrape(watched).value(AUTHENTICATIONS.name, **accepted)

    before = count()
    uses = sum(present(watched, secret) == 200 for _ in range(8))
    assert uses >= 5
    assert {count() for _ in range(8)} == {before + uses}, "whoever is asked says the same"
    for number, worker in enumerate(("worker-1", "worker-2"), 1):
        os.kill(watched.program_pids()[worker], signal.SIGKILL)
        until(partial(_has_started, watched, 2 + number), what="another worker")
        assert count() == before + uses


def _has_started(service: RunningService, workers: int) -> bool:
    try:
        return scrape(service).value("scim_ledger_worker_starts_total") == workers
    except httpx.TransportError:  # it was the one that was killed
        return False


def test_each_page_is_one_workers_and_the_sum_is_of_all() -> None:
    fd = new_pages(3)
    assert fd is not None
    pages = [Pages(fd, number) for number in (1, 2, 3)]
    for number, page in enumerate(pages, 1):
        instruments = Instruments(page)
        instruments.doors.authentications.add(("scim", "good"))
        instruments.http.connections.add(number)
    place = FIRST_CELLS[AUTHENTICATIONS.name]["scim", "accepted", "good"]
    opened = FIRST_CELLS[catalogue.CONNECTIONS.name][()]
    assert [pages[0].sums()[each] for each in (place, opened)] == [3, 6]
    Instruments(Pages(fd, 2))  # a worker in the place of one that died
    assert [pages[0].sums()[each] for each in (place, opened)] == [3, 4], (
        "its connections have gone"
    )
    os.close(fd)


def test_each_series_has_its_cells_and_no_other() -> None:
    taken = [
        place + offset
        for metric in COUNTED
        for place in FIRST_CELLS[metric.name].values()
        for offset in range(metric.cells)
    ]
    assert sorted(taken) == list(range(CELLS))


def test_a_histogram_adds_up() -> None:
    pages = Pages()
    lane = Instruments(pages).ledger.uses
    for value in (1, 2, 3, 20_000):
        lane.batch.observe(value)
    lines = families("\n".join(counted(pages.sums())) + "\n")
    (metric,) = [each for each in lines if each.name == "scim_ledger_append_batch_size"]
    found = {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for sample in metric.samples
        if sample.labels["lane"] == "uses"
    }
    assert [found["bucket", bound] for bound in ("1", "2", "5", "10000", "+Inf")] == [1, 2, 3, 3, 4]
    assert found["sum", None] == 20_006
    assert found["count", None] == 4


def test_each_door_tells_why_it_stayed_shut(watched: RunningService, operator: Caller) -> None:
    def forward(reason: str) -> float:
        return scrape(watched).total(AUTHENTICATIONS.name, door="forward", reason=reason)

    reasons = ("missing", "malformed", "unknown", "revoked", "suspended", "expired", "throttled")
    before = {reason: forward(reason) for reason in reasons}
    revoked_id, revoked = issue(watched, operator)
    suspended_id, suspended = issue(watched, operator)
    soon = now() + timedelta(seconds=1)
    _, expired = issue(watched, operator, expires_at=text(soon))
    client = watched.client
    assert client.delete(f"/scim-token/{revoked_id}", auth=operator).status_code == 200
    assert client.post(f"/scim-token/{suspended_id}/suspend", auth=operator).status_code == 200
    for secret in ("", "garbage", mint(SecretKind.SCIM_LIVE, os.urandom(32)).reveal()):
        assert present(watched, secret) == 401
    assert [present(watched, secret) for secret in (revoked, suspended)] == [401, 401]
    until(lambda: now() > soon, what="the end")
    assert present(watched, expired) == 401
    _, busy = issue(watched, operator)
    limited = scrape(watched).total("scim_ledger_limited_total", limit="token_rate")
    answers: list[int] = []
    with httpx.Client(base_url=watched.url, trust_env=False) as one_worker:
        for _ in range(15):
            headers = {"Authorization": f"Bearer {busy}"}
            answers.append(one_worker.get(GATEWAY, headers=headers).status_code)
    throttled = answers.count(429)
    assert throttled > 0
    expected = dict.fromkeys(reasons, 1) | {"throttled": throttled}
    assert {reason: forward(reason) - before[reason] for reason in reasons} == expected
    after = scrape(watched).total("scim_ledger_limited_total", limit="token_rate")
    assert after - limited == throttled


def test_nothing_that_a_client_sends_is_told_or_makes_a_series(
    watched: RunningService, operator: Caller
) -> None:
    token_id, secret = issue(watched, operator)
    before = scrape(watched)
    sent = send_all(watched.url, secret)
    after = scrape(watched)
    assert after.values.keys() == before.values.keys()
    for told in (secret, token_id, "127.0.0.1", *NEVER_TOLD):
        assert told not in after.text
    requests = "scim_ledger_http_requests_total"
    assert after.total(requests) - before.total(requests) == sent + 1, "each is counted"


def test_a_path_has_one_of_few_classes() -> None:
    assert route_of("/scim-token/revoke") == "scim-token"
    assert route_of("/readyz") == "health"
    assert {route_of(path) for path in ("*", "/evil", "/SCIM", "/scim.", "/unread")} == {"other"}


def test_every_route_of_the_service_has_its_class() -> None:
    settings = Settings(
        database_url="postgresql://127.0.0.1:1/none",
        pepper=PEPPER_KEY,
        console=True,
        gitlab_revocation=True,
    )
    paths = {route.path for route in build(settings)._admin.routes}  # type: ignore[attr-defined]
    assert "other" not in {route_of(path) for path in paths}


@pytest.mark.long
def test_without_a_database_it_tells_that_and_what_was_counted() -> None:
    away = Settings(
        database_url="postgresql://127.0.0.1:1/none", pepper=PEPPER_KEY, public_metrics=True
    )
    with TestClient(build(away)) as client:
        headers = {"Authorization": f"Bearer {mint(SecretKind.SCIM_LIVE, os.urandom(32)).reveal()}"}
        assert client.get(GATEWAY, headers=headers).status_code == 503
        found = Scrape(client.get("/metrics"))
    assert found.value("scim_ledger_problem", cause="database") == 1
    assert found.value("scim_ledger_readiness", status="unavailable") == 1
    failed = {"door": "forward", "outcome": "failed", "reason": "unavailable"}
    assert found.value(AUTHENTICATIONS.name, **failed) == 1


@pytest.mark.long
def test_whoever_is_confined_to_teams_is_told_of_the_views_alone(watched: RunningService) -> None:
    with running_service(watched.database) as guarded:
        confined = guarded.api_token(teams=[uuid4()])
        answer = guarded.client.get("/metrics", auth=confined)
    names = {family.name for family in families(answer.text)}
    assert "scim_ledger_projection_lag_seconds" in names
    assert not names & {metric.name for metric in COUNTED} | {
        name for name in names if "tokens" in name or "bytes" in name
    }

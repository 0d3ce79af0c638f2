"""Warnings over HTTP: told by the running service, in trail and feed, once with two of them."""

import re
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from litestar.testing import TestClient

from api.app import build
from api.settings import Settings
from tests.api.expected import create, instant
from tests.api.trail import audit, text
from tests.conftest import Database, catch_up, now
from tests.domain.scenario import created
from tests.projections.given_events import record
from tests.service import PEPPER_KEY, Caller, RunningService, until

DAY = timedelta(days=1)
SOON = 20 * DAY


def warnings(service: RunningService, caller: Caller, token_id: str) -> list[dict[str, Any]]:
    """That it is expiring, in the trail."""
    path = f"/scim-token/{token_id}/events"
    return audit(service, caller, path, kind="scim_token.expiring")


def test_that_a_token_ends_soon_is_in_trail_and_feed(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team, expires_at=text(now() + SOON))
    until(lambda: warnings(service, admin, token["id"]) != [], what="the warning")
    (row,) = warnings(service, admin, token["id"])
    assert row | {"position": 0, "at": "", "use_id": ""} == {
        "position": 0,
        "at": "",
        "kind": "scim_token.expiring",
        "outcome": "success",
        "reason": None,
        "team_id": str(team),
        "token_id": token["id"],
        "user_id": None,
        "api_token_id": None,
        "door": None,
        "source": None,
        "user_agent": None,
        "method": None,
        "path_class": None,
        "note": f"ends at {token['expires_at']}, within 30 days",
        "count": 1,
        "use_id": "",
        "operator": None,
        "secret": None,
        "cause": None,
    }
    feed = service.client.get(
        "/events", auth=admin, params={"after": row["position"] - 1, "limit": 1}
    ).json()
    assert feed[0]["data"] == row
    assert (feed[0]["type"], feed[0]["subject"]) == (row["kind"], f"scim_token/{token['id']}")
    assert instant(feed[0]["time"]) >= instant(token["created_at"])


def test_a_warning_leaves_the_token_as_it_was(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team, expires_at=text(now() + SOON))
    del token["token"]
    until(lambda: warnings(service, admin, token["id"]) != [], what="the warning")
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).json() == token


def test_how_many_tokens_end_soon_is_a_metric(service: RunningService, admin: Caller) -> None:
    def expiring() -> dict[str, int]:
        answer = service.client.get("/metrics", auth=admin)
        sample = re.compile(r'^scim_ledger_tokens_expiring{days="(\d+)"} (\d+)$', re.MULTILINE)
        found = sample.findall(answer.text)
        return {days: int(count) for days, count in found}

    before = expiring()
    create(service, admin, expires_at=text(now() + timedelta(hours=1)))
    token = create(service, admin, expires_at=text(now() + SOON))
    until(lambda: warnings(service, admin, token["id"]) != [], what="the warning")
    assert {days: count - before[days] for days, count in expiring().items()} == {
        "1": 1,
        "7": 1,
        "30": 2,
        "90": 2,
    }
    assert "scim_ledger_warnings_lag_seconds 0.0" in service.client.get("/metrics", auth=admin).text


def test_metrics_of_tokens_are_for_those_who_see_all_teams(
    service: RunningService, team: UUID
) -> None:
    confined = service.api_token(teams=[team])
    assert "scim_ledger_tokens_expiring" not in service.client.get("/metrics", auth=confined).text


@pytest.mark.long
def test_warnings_that_are_not_told_are_a_problem_and_stop_nothing(database: Database) -> None:
    """The process that tells them is away, or fails."""
    settings = Settings(database_url=database.app, pepper=PEPPER_KEY)

    def readiness() -> dict[str, Any]:
        catch_up(database)
        with TestClient(build(settings)) as client:
            answer = client.get("/readyz")
            assert answer.status_code == 200
            told: dict[str, Any] = answer.json()
            return told

    record(database, created(now() - 2 * DAY, expires_at=now() + 40 * DAY))
    assert readiness()["status"] == "ready"
    record(database, created(now() - DAY, expires_at=now() + 20 * DAY))
    told = readiness()
    assert told["status"] == "degraded"
    assert re.match("warnings about tokens are due since .* and not told", told["problems"][0])


@pytest.mark.long
def test_two_services_warn_once(two_services: tuple[RunningService, RunningService]) -> None:
    one, other = two_services
    admin = one.api_token()
    tokens = [create(one, admin, expires_at=text(now() + SOON)) for _ in range(10)]
    last = create(other, admin, expires_at=text(now() + SOON))
    until(lambda: warnings(other, admin, last["id"]) != [], what="the last warning")
    assert [len(warnings(one, admin, token["id"])) for token in tokens] == [1] * 10


def test_views_that_the_role_may_not_read_are_told_by_readiness(database: Database) -> None:
    """As where DATABASE_URL names another role than the one whose they are."""
    record(database, created())
    catch_up(database)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        tables = owner.execute("SELECT oid::regclass::text FROM pg_class WHERE " + OF_VIEWS)
        for (table,) in tables.fetchall():
            owner.execute(f"ALTER TABLE {table} OWNER TO CURRENT_USER".encode())
    settings = Settings(database_url=database.app, pepper=PEPPER_KEY)
    with TestClient(build(settings)) as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["problems"] == [
        "the view scim_tokens cannot be read: see scim-ledger doctor"
    ]


OF_VIEWS: Final = "relnamespace = 'views'::regnamespace AND relkind IN ('r', 'p')"

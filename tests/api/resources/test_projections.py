"""`/projections` and `/metrics`: how far the views are, their rebuild, a retry."""

import asyncio
import re
from uuid import uuid4

import httpx
import psycopg
import pytest
from litestar.testing import TestClient

from api.app import build
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewScimToken
from projections.follow import locks
from projections.registry import PROJECTIONS
from tests.api.expected import INSTANT, assert_not_found, assert_problem
from tests.conftest import Database, open_ledger
from tests.projections.given_events import position
from tests.service import PEPPER_KEY, Caller, RunningService, until

NAMES = [projection.name for projection in PROJECTIONS]
CALLS = (
    ("GET", "/projections"),
    ("GET", "/projections/usage"),
    ("POST", "/projections/usage/rebuild"),
    ("GET", "/projections/usage/rebuild"),
    ("POST", "/projections/usage/retry"),
    ("GET", "/metrics"),
)


@pytest.fixture(scope="module")
def operator(service: RunningService) -> Caller:
    return service.api_token(Permission.PROJECTIONS_MANAGE)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_it_needs_its_permission(service: RunningService, method: str, path: str) -> None:
    assert service.client.request(method, path).status_code == 401
    others = [
        permission for permission in Permission if permission is not Permission.PROJECTIONS_MANAGE
    ]
    answer = service.client.request(method, path, auth=service.api_token(*others))
    assert_problem(
        answer, 403, "permission-denied", "The API token lacks the permission projections:manage."
    )


@pytest.mark.parametrize(("method", "path"), CALLS[1:5])
def test_a_view_that_is_not_there_is_not_found(
    service: RunningService, operator: Caller, method: str, path: str
) -> None:
    assert_not_found(service.client.request(method, path.replace("usage", "sales"), auth=operator))


def test_the_views_are_listed(service: RunningService, operator: Caller) -> None:
    def is_caught_up() -> bool:
        found = service.client.get("/projections", auth=operator).json()["result"]
        return all(each["lag"] == 0 for each in found)

    until(is_caught_up)
    answer = service.client.get("/projections", auth=operator)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found = {each["name"]: each for each in answer.json()["result"]}
    assert found.keys() == set(NAMES)
    usage = found["usage"]
    assert INSTANT.fullmatch(usage.pop("updated_at"))
    assert usage.pop("position") == usage.pop("head") > 0
    assert usage == {
        "name": "usage",
        "version": usage["version"],
        "shape": 3,
        "state": "live",
        "lag": 0,
        "lag_s": 0.0,
        "stopped_at": None,
        "error": None,
    }
    one = service.client.get("/projections/usage", auth=operator)
    assert one.status_code == 200
    assert one.json().keys() == {*usage, "position", "head", "updated_at"}


def test_a_rebuild_is_asked_for_once_and_carried_out_by_the_projection_process(
    service: RunningService, operator: Caller
) -> None:
    """The test holds the view's rebuild lock for a while,
    so that the second request surely comes in time.
    """
    (projection,) = (each for each in PROJECTIONS if each.name == "token_sources")
    path = "/projections/token_sources/rebuild"
    with psycopg.connect(service.database.owner) as owner:  # another test may have asked for one
        owner.execute("DELETE FROM ledger.projection_rebuilds WHERE name = 'token_sources'")
    version = service.client.get("/projections/token_sources", auth=operator).json()["version"]
    assert_not_found(service.client.get(path, auth=operator))
    with psycopg.connect(service.database.app, autocommit=True) as connection:
        assert locks.try_lock(connection, locks.REBUILD, projection)
        answer = service.client.post(path, auth=operator)
        assert (answer.status_code, answer.headers["location"]) == (202, path)
        asked = answer.json()
        assert INSTANT.fullmatch(asked.pop("requested_at"))
        assert asked == {
            "name": "token_sources",
            "state": "requested",
            "version": None,
            "position": 0,
            "target": 0,
            "events_per_s": None,
            "eta_s": None,
            "error": None,
            "accepts_difference": False,
            "started_at": None,
            "finished_at": None,
        }
        assert_problem(
            service.client.post(path, auth=operator),
            409,
            "already-underway",
            "It is under way already; its status tells how far it is.",
        )
    until(lambda: service.client.get(path, auth=operator).json()["finished_at"] is not None)
    done = service.client.get(path, auth=operator).json()
    assert (done["state"], done["version"], done["error"]) == ("done", version + 1, None)
    assert (
        service.client.get("/projections/token_sources", auth=operator).json()["version"]
        == version + 1
    )


def test_metrics_are_in_the_text_format(service: RunningService, operator: Caller) -> None:
    answer = service.client.get("/metrics", auth=operator)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {}
    for line in answer.text.splitlines():
        if not line.startswith("# "):
            match = re.fullmatch(
                r"([a-z_]+(?:\{(?:[a-z_]+=\"[A-Za-z0-9_.+-]+\",?)+\})?) ([0-9.e-]+)", line
            )
            assert match is not None, line
            samples[match[1]] = float(match[2])
    assert samples["scim_ledger_head_position"] > 0
    for name in NAMES:
        assert any(f'_lag_events{{projection="{name}"' in sample for sample in samples)
    types = dict(re.findall(r"^# TYPE (\w+) (gauge|counter|histogram)$", answer.text, re.MULTILINE))
    assert len(types) == answer.text.count("# TYPE ")
    ends = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}
    named = {name + end for name, type_ in types.items() for end in ends[type_]}
    assert {sample.partition("{")[0] for sample in samples} == named


@pytest.fixture
def stopped(database: Database) -> Database:
    """A ledger whose view `usage` could not apply an event."""

    async def fill() -> None:
        async with open_ledger(database.app) as ledger:
            await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=Operator(uuid4()))

    asyncio.run(fill())
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "UPDATE ledger.projection_positions SET stopped_at = 1, error = 'KeyError on it' "
            "WHERE name = 'usage'"
        )
    return database


def test_public_metrics_need_no_token_and_tell_of_a_stop(stopped: Database) -> None:
    def scrape(*, is_public: bool) -> httpx.Response:
        told = Settings(database_url=stopped.app, pepper=PEPPER_KEY, public_metrics=is_public)
        with TestClient(build(told)) as client:
            return client.get("/metrics")

    answer = scrape(is_public=True)
    assert answer.status_code == 200
    assert (
        'scim_ledger_projection_stopped{projection="usage",version="1",shape="3"} 1' in answer.text
    )
    assert (
        'scim_ledger_projection_lag_events{projection="usage",version="1",shape="3"} 1'
        in answer.text
    )
    assert position(stopped, "usage").lag_s(position(stopped, "usage").updated_at) >= 0
    assert scrape(is_public=False).status_code == 401


def test_a_stopped_view_is_told_to_go_on(service: RunningService, operator: Caller) -> None:
    """The stop is made up, so the retry goes well; a real one would stop the view again."""
    service.query(
        "UPDATE ledger.projection_positions "
        "SET stopped_at = position + 1, error = 'KeyError on it' "
        "WHERE name = 'usage' AND role = 'live'"
    )
    before = service.client.get("/projections/usage", auth=operator).json()
    assert (before["state"], before["error"]) == ("stopped", "KeyError on it")
    assert service.client.get("/readyz").json()["status"] == "degraded"
    answer = service.client.post("/projections/usage/retry", auth=operator)
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["error"]) == ("live", None)
    until(lambda: service.client.get("/projections/usage", auth=operator).json()["lag"] == 0)
    assert service.client.get("/readyz").json()["status"] == "ready"

"""A real Prometheus scrapes a service under load: each expression of the dashboard gives data."""

import json
import math
import re
import threading
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from tests.conftest import new_database
from tests.gateways.programs import DEPLOY, require
from tests.operations.prometheus import Prometheus, running_prometheus
from tests.service import RunningService, running_service, until

pytestmark = pytest.mark.gateway

DASHBOARD: Final[dict[str, Any]] = json.loads((DEPLOY / "grafana/scim-ledger.json").read_text())
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: Final = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
DOORS: Final = ("/gateway/nginx", "/gateway/forward", "/gateway/envoy", "/scim/v2/Users")


def load(service: RunningService, stopping: threading.Event) -> None:
    """Every door, every kind of request that the dashboard tells of."""
    caller = service.api_token()
    with httpx.Client(base_url=service.url, timeout=10, trust_env=False) as client:
        while not stopping.is_set():
            body = {"team_id": str(uuid4()), "name": "load"}
            made = client.post("/scim-token", json=body, auth=caller).json()
            for secret in (made["token"], made["token"][:-1] + "-", ""):
                headers = {"Authorization": f"Bearer {secret}"} if secret else {}
                for path in DOORS:
                    client.get(path, headers=headers)
                client.post("/verify", json={"token": secret or "x"}, auth=caller)
            client.get("/scim-token", auth=caller)
            client.get("/audit", auth=caller)
            client.get("/no/such/route")


@pytest.fixture(scope="module")
def prometheus(server: str) -> Iterator[Prometheus]:
    """Of a service under load, for long enough that a rate is known."""
    require({"prometheus": "apt-get install --no-install-recommends prometheus"})
    stopping = threading.Event()
    with (
        new_database(server) as database,
        running_service(database, workers=2) as service,
    ):
        watcher = service.api_token(Permission.PROJECTIONS_MANAGE)
        thread = threading.Thread(target=load, args=(service, stopping))
        thread.start()
        try:
            target = urlsplit(service.url).netloc
            with running_prometheus(target, api_token=watcher.secret) as started:
                scrapes = 'count_over_time(up{job="scim-ledger"}[1m])'
                until(lambda: started.values(scrapes) >= [8.0], timeout_s=60, what="scrapes")
                yield started
        finally:
            stopping.set()
            thread.join()


def filled_in(expression: str) -> str:
    """As the dashboard sends it, for all services."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "10s")


def test_the_rules_are_evaluated_and_the_target_is_up(prometheus: Prometheus) -> None:
    (group,) = prometheus.get("/rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    (target,) = prometheus.get("/targets")["activeTargets"]
    assert target["health"] == "up"
    assert "#" not in target["lastError"]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_gives_data_under_load(prometheus: Prometheus, expression: str) -> None:
    def gives_data() -> bool:
        return any(math.isfinite(value) for value in prometheus.values(filled_in(expression)))

    until(gives_data, timeout_s=20, what="data", tell=lambda: filled_in(expression))


def test_the_variables_are_known(prometheus: Prometheus) -> None:
    asked = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert asked.keys() == {"datasource", "instance"}
    assert asked["instance"]["query"]["query"] == "label_values(scim_ledger_build_info, instance)"
    assert len(prometheus.values("scim_ledger_build_info")) == 1
    known = {"$instance", "$__rate_interval"}
    for parameter in EXPRESSIONS:
        (expression,) = parameter.values
        assert isinstance(expression, str)
        assert set(re.findall(r"\$\w+", expression)) <= known


def test_the_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

"""Every alert fires in the trouble that it is about, and none without one.

A service is brought into trouble, and its metrics are read before and in it. Prometheus' own test
of rules (`promtool test rules`) is told that the trouble goes on: gauges stay, counters grow by as
much each minute. The rules are those of `deploy/`, with their times as they are.
"""

import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.api.telemetry.samples import families
from tests.conftest import new_database
from tests.gateways.programs import DEPLOY, require
from tests.operations.troubles import TROUBLES, Place, Told, calm

pytestmark = pytest.mark.gateway

ALERTS: Final = DEPLOY / "prometheus/alerts.yml"
ROOT: Final = DEPLOY.parent
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
MINUTES: Final = 40
TARGET: Final = {"job": "scim-ledger", "instance": "ledger.internal:8080"}
Series = dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, bool]]
"""Value of each series, and whether it only grows."""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    require({"promtool": "apt-get install --no-install-recommends prometheus"})


@pytest.fixture(scope="module")
def told(server: str) -> Callable[[Callable[[Place], Told]], Told]:
    """What a trouble makes of a ledger of its own; each is caused once."""

    @cache
    def cause(trouble: Callable[[Place], Told]) -> Told:
        with new_database(server) as database:
            return trouble(Place(database))

    return cause


def series(text: str | None) -> Series:
    found: Series = {("up", ()): (0 if text is None else 1, False)}
    for family in families(text or ""):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            found[key] = sample.value, family.type != "gauge"
    return found


def going_on(told: Told) -> list[dict[str, str]]:
    """The trouble for MINUTES, a sample a minute."""
    before = {} if told.before is None else series(told.before)
    found = []
    for (name, labels), (value, is_growing) in series(told.during).items():
        first = before.get((name, labels), (value, is_growing))[0] if is_growing else value
        inner = ",".join(f'{key}="{text}"' for key, text in [*labels, *TARGET.items()])
        values = f"{first:f}+{value - first:f}x{MINUTES}"
        found.append({"series": f"{name}{{{inner}}}", "values": values})
    return found


def asks(told: Told, expression: str, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    """What Prometheus says at the end."""
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": going_on(told),
                "promql_expr_test": [
                    {"expr": expression, "eval_time": f"{MINUTES}m", "exp_samples": expected}
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    run = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_rules_are_sound_and_each_has_its_trouble() -> None:
    for command in (["rules", ALERTS], ["config", ALERTS.with_name("prometheus.yml")]):
        subprocess.run(["promtool", "check", *map(str, command)], check=True, capture_output=True)
    assert [rule["alert"] for rule in RULES] == list(TROUBLES)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])
def test_an_alert_fires_in_its_trouble(
    told: Callable[[Callable[[Place], Told]], Told], rule: dict[str, Any], tmp_path: Path
) -> None:
    name = rule["alert"]
    firing = f'max(ALERTS{{alertname="{name}",alertstate="firing"}})'
    asks(told(TROUBLES[name]), firing, [{"labels": "{}", "value": 1}], tmp_path)


def test_no_alert_fires_without_a_trouble(
    told: Callable[[Callable[[Place], Told]], Told], tmp_path: Path
) -> None:
    asks(told(calm), "ALERTS", [], tmp_path)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])
def test_an_alert_says_what_is_wrong_and_where_it_is_told_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "warn", "ticket"}
    summary, remedy = rule["annotations"]["summary"], rule["annotations"]["remedy"]
    assert "{{ $labels.instance }}" in summary
    page, _, anchor = remedy.partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}

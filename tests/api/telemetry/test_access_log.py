"""The access log: off unless it is asked for, a line an answer, and nothing that was sent."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.api.telemetry.hostile import NEVER_TOLD, send_all
from tests.conftest import new_database
from tests.service import RunningService, running_service, until

SAID: Final = {"request_id", "method", "route", "status", "duration_ms"}
ALWAYS: Final = {"event", "level", "timestamp", "worker"}
PAIR: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')


SPOKEN: Final = ("scim-ledger serves the ledger ", "scim-ledger listens on ", "scim-ledger: ")


def of_json(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def of_text(line: str) -> dict[str, Any]:
    assert PAIR.sub("", line) == "", line
    return {name: value.strip('"') for name, value in PAIR.findall(line)}


@contextmanager
def logging_service(server: str, **settings: str) -> Iterator[RunningService]:
    environment = {f"SCIM_LEDGER_{name}": value for name, value in settings.items()}
    with (
        new_database(server) as database,
        running_service(database, environment=environment) as started,
    ):
        yield started


def lines(service: RunningService) -> list[str]:
    """Whole lines of the log, but what `serve` says to whoever started it."""
    text = service.log.read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [line for line in whole if not line.startswith(SPOKEN)]


@pytest.mark.long
def test_it_is_off_unless_it_is_asked_for(server: str) -> None:
    with logging_service(server) as service:
        assert service.client.get("/healthz").status_code == 200
        assert not [line for line in lines(service) if of_json(line)["event"] == "request"]


def test_each_answer_is_a_line_that_tells_nothing_of_what_was_sent(
    behind: RunningService,
) -> None:
    check_lines(behind, of_json)


@pytest.mark.long
def test_so_is_it_as_text(server: str) -> None:
    with logging_service(server, ACCESS_LOG="true", LOG_FORMAT="text") as service:
        check_lines(service, of_text)


def check_lines(service: RunningService, parsed: Callable[[str], dict[str, Any]]) -> None:
    """Of requests of every kind, and of all that the log says from now on."""
    earlier = len(service.log.read_text())
    made = service.client.post(
        "/scim-token", json={"team_id": str(uuid4()), "name": "x"}, auth=service.api_token()
    )
    secret, token_id = made.json()["token"], made.json()["id"]

    def told() -> list[dict[str, Any]]:
        return [line for line in map(parsed, lines(service)) if line["event"] == "request"]

    def has_line(answer: httpx.Response) -> bool:
        wanted = answer.headers["x-request-id"]
        return any(line.get("request_id") == wanted for line in told())

    until(lambda: has_line(made), what="the line of the first")
    before = len(told())
    sent = send_all(service.url, secret)
    until(lambda: len(told()) == before + sent, what="a line for each")
    answer = service.client.get(f"/scim-token/{token_id}?x=1")
    until(lambda: len(told()) == before + sent + 1, what="the last one")
    *others, last = told()[before:]
    text = service.log.read_text()[earlier:]
    for secret_part in (secret, secret.rpartition("_")[2], token_id, "127.0.0.1", *NEVER_TOLD):
        assert secret_part not in text.replace(service.url, "")
    assert all(line.keys() - {"worker"} == (SAID | ALWAYS) - {"worker"} for line in told_of(others))
    unread = [line for line in others if line["route"] == "unread"]
    assert {str(line["status"]) for line in unread} == {"400", "414"}
    assert last["request_id"] == answer.headers["x-request-id"]
    assert (last["method"], last["route"], str(last["status"])) == ("GET", "scim-token", "401")
    assert 0 < float(last["duration_ms"]) < 10_000
    refused = service.client.get("/", headers=[("Authorization", "a"), ("Authorization", "b")])
    assert refused.status_code == 400
    until(lambda: has_line(refused), what="the line of what was not read")


def told_of(requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that could be read."""
    return (line for line in requests if line["route"] != "unread")

"""The service itself: its views and their rebuilds, what it refused, what the doctor finds."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from api.console.cookie import LOOPBACK
from api.console.pages.system import BADGES, COMMANDS, REASONS
from api.doctor.finding import Status
from api.telemetry.catalogue import OUTCOMES
from domain.api_token.permissions import Permission
from projections.follow import locks
from projections.registry import PROJECTIONS
from tests.conftest import new_database
from tests.console.browsing import Visitor, assert_guarded
from tests.console.test_tokens import asked_for, create, present
from tests.service import (
    COMMAND,
    Caller,
    RunningService,
    running_service,
    service_environment,
    until,
)

PATH: Final = "/console/system"
WORKERS: Final = 2
VIEW: Final = "token_sources"
NAMES: Final = [projection.name for projection in PROJECTIONS]


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    """A service of this module's own: its views are rebuilt, and its refusals counted."""
    with (
        new_database(server) as database,
        running_service(database, workers=WORKERS) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def admin(service: RunningService) -> Caller:
    return service.api_token()


def row(page: httpx.Response, name: str) -> str:
    """The row whose head begins with the name."""
    found = re.search(rf'<tr>\s*<th scope="row">{name}<.*?</tr>', page.text, re.DOTALL)
    assert found is not None, page.text
    return found[0]


def text_of(part: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", part)).split())


@contextmanager
def stopped(service: RunningService, name: str, error: str = "<b>cannot</b>") -> Iterator[None]:
    """A view that could not apply an event, in the block."""
    service.query(
        "UPDATE ledger.projection_positions SET stopped_at = 7, error = %s"
        " WHERE name = %s AND role = 'live'",
        error,
        name,
    )
    yield
    service.query("UPDATE ledger.projection_positions SET stopped_at = NULL, error = NULL")


@contextmanager
def failed(service: RunningService, name: str, error: str = "it differs") -> Iterator[None]:
    """A view whose newest rebuild failed, once one that is under way is over."""
    underway = "SELECT id FROM ledger.projection_rebuilds WHERE finished_at IS NULL"
    until(lambda: not service.query(underway), timeout_s=60)
    service.query(
        "INSERT INTO ledger.projection_rebuilds (name, shape, state, error, finished_at)"
        " SELECT name, shape, 'failed', %s, now() FROM ledger.projection_positions"
        " WHERE name = %s AND role = 'live'",
        error,
        name,
    )
    yield
    service.query("DELETE FROM ledger.projection_rebuilds WHERE error = %s", error)


def live_table(service: RunningService, name: str) -> str:
    """Where a view's rows are."""
    ((version,),) = service.query(
        "SELECT version FROM ledger.projection_positions WHERE name = %s AND role = 'live'", name
    )
    (projection,) = (each for each in PROJECTIONS if each.name == name)
    return projection.table(version)


@contextmanager
def rebuild_held(service: RunningService) -> Iterator[None]:
    """Whatever rebuild of the view is asked for in the block begins after it."""
    (projection,) = (each for each in PROJECTIONS if each.name == VIEW)
    with psycopg.connect(service.database.app, autocommit=True) as connection:
        assert locks.try_lock(connection, locks.REBUILD, projection)
        yield


def test_it_tells_how_far_each_view_is(service: RunningService, visitor: Visitor) -> None:
    page = visitor.see(PATH)
    assert_guarded(page)
    assert page.status_code == 200
    assert f'href="{PATH}" aria-current="page"' in page.text
    for name in NAMES:
        assert re.search(r"version \d+ live \d+ events?", text_of(row(page, name)))
    with stopped(service, "usage"):
        told = row(visitor.see(PATH), "usage")
    assert "stopped at event 7: <b>cannot</b>" in text_of(told)
    assert "&lt;b&gt;cannot&lt;/b&gt;" in told


def test_a_rebuild_is_asked_for_once_and_its_progress_is_told(
    service: RunningService, visitor: Visitor
) -> None:
    at = f"{PATH}/{VIEW}/rebuild"
    with rebuild_held(service):
        done = visitor.send(at, {})
        assert (done.status_code, done.headers["location"]) == (303, f"{PATH}?done=rebuild")
        assert "The rebuild is asked for." in visitor.see(done.headers["location"]).text
        assert visitor.see(at).headers["location"] == PATH
        page = visitor.see(PATH)
        assert "requested" in text_of(row(page, VIEW))
        assert "<button" not in row(page, VIEW)
        assert "data-waits" in page.text
        again = visitor.send(at, {})
        assert again.status_code == 409
        assert "data-waits" not in again.text, "it would send the form again"
        assert 'role="alert">It is under way already' in again.text
        service.query(
            "UPDATE ledger.projection_rebuilds SET state = 'building', position = 25, target = 100,"
            " started_at = now() - interval '10 s', updated_at = now() WHERE finished_at IS NULL"
        )
        progress = row(visitor.see(PATH), VIEW)
        assert '<progress max="100" value="25"' in progress
        assert "building, 25 %, about 30 s left" in text_of(progress)
    until(lambda: "just now" in text_of(row(visitor.see(PATH), VIEW)))
    page = visitor.see(PATH)
    assert "data-waits" not in page.text
    assert f'action="{at}"' in row(page, VIEW)
    assert service.query("SELECT count(*) FROM ledger.projection_rebuilds") == [(1,)]


def test_why_a_rebuild_failed_is_told_as_text(service: RunningService, visitor: Visitor) -> None:
    with failed(service, "usage", "<script>differs</script>"):
        told = row(visitor.see(PATH), "usage")
    assert "failed just now : <script>differs</script>" in text_of(told)
    assert "<script" not in told


def test_a_stopped_view_tries_again(service: RunningService, visitor: Visitor) -> None:
    at = f"{PATH}/usage/retry"
    assert at not in visitor.see(PATH).text
    with stopped(service, "usage"):
        assert f'action="{at}"' in row(visitor.see(PATH), "usage")
        done = visitor.send(at, {})
        assert (done.status_code, done.headers["location"]) == (303, f"{PATH}?done=retry")
        page = visitor.see(done.headers["location"])
        assert "The view tries the event again." in page.text
        assert "live" in text_of(row(page, "usage"))
        assert at not in page.text
    assert visitor.see(at).headers["location"] == PATH
    assert visitor.send(at, {}).status_code == 303, "one that goes on is left as it is"


def test_a_difference_is_accepted_where_a_rebuild_failed(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID
) -> None:
    """A damaged row, which a rebuild finds and does not put right unless it is told to."""
    at, table = f"{PATH}/{VIEW}/accept-difference", live_table(service, VIEW)
    present(service, create(service, admin, team, "Okta")["token"])
    # A first use is told soon after it is in the view, which counts it.
    until(lambda: service.query(f"SELECT min(told) FROM {table}") == [(1,)])
    undamaged = service.query(f"SELECT key, told FROM {table} ORDER BY key")
    assert "accept-difference" not in row(visitor.see(PATH), VIEW)
    service.query(f"UPDATE {table} SET told = told + 5")
    visitor.send(f"{PATH}/{VIEW}/rebuild", {})
    until(lambda: "differs in told" in text_of(row(visitor.see(PATH), VIEW)))
    page = row(visitor.see(PATH), VIEW)
    assert f'action="{at}"' in page
    assert '<input type="checkbox" required>' in page
    assert visitor.send(at, {}).headers["location"] == f"{PATH}?done=rebuild"
    until(lambda: text_of(row(visitor.see(PATH), VIEW)).endswith("just now Rebuild"))
    assert (
        service.query(f"SELECT key, told FROM {live_table(service, VIEW)} ORDER BY key")
        == undamaged
    )
    assert "accept-difference" not in row(visitor.see(PATH), VIEW)
    assert visitor.see(at).headers["location"] == PATH


def test_a_difference_is_accepted_by_nobody_while_a_rebuild_is_under_way(
    service: RunningService, visitor: Visitor
) -> None:
    with rebuild_held(service):
        assert visitor.send(f"{PATH}/{VIEW}/rebuild", {}).status_code == 303
        again = visitor.send(f"{PATH}/{VIEW}/accept-difference", {})
        assert again.status_code == 409
        assert "data-waits" not in again.text, "it would send the form again"
        assert service.query(
            "SELECT accepts_difference FROM ledger.projection_rebuilds WHERE finished_at IS NULL"
        ) == [(False,)]
    until(lambda: "just now" in text_of(row(visitor.see(PATH), VIEW)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_view_that_is_not_there_is_not_found(visitor: Visitor, command: str) -> None:
    assert visitor.send(f"{PATH}/sales/{command}", {}).status_code == 404


@pytest.mark.parametrize("command", COMMANDS)
def test_another_site_does_nothing_to_a_view(
    service: RunningService, visitor: Visitor, command: str
) -> None:
    asked = "SELECT count(*) FROM ledger.projection_rebuilds"
    before = service.query(asked)
    foreign = {"Sec-Fetch-Site": "cross-site"}
    with stopped(service, VIEW):
        answer = visitor.client.post(f"{PATH}/{VIEW}/{command}", headers=foreign)
        assert answer.status_code == 403
        assert "stopped" in text_of(row(visitor.see(PATH), VIEW))
    assert service.query(asked) == before


def test_refusals_of_all_workers_are_told_by_reason(
    service: RunningService, visitor: Visitor
) -> None:
    def ask(**headers: str) -> int:
        """On a connection of its own, so that any worker may have it."""
        return httpx.get(
            f"{service.url}/gateway/nginx", headers=headers, trust_env=False
        ).status_code

    assert {ask() for _ in range(12)} == {401}
    assert ask(Authorization="Bearer <b>nonsense</b>") == 401
    page = visitor.see(PATH)
    assert "nginx 12" in text_of(row(page, "missing"))
    assert "nginx 1" in text_of(row(page, "malformed"))
    assert "nonsense" not in page.text


@pytest.mark.long
def test_health_is_told_on_request_as_the_doctor_tells_it(
    service: RunningService, visitor: Visitor
) -> None:
    assert "What the doctor finds" not in visitor.see(PATH).text
    page = visitor.see(PATH, examine="1")
    assert_guarded(page)
    assert len(page.content) <= 40 * 1024
    environment = service_environment(service.database.app, SCIM_LEDGER_WORKERS=str(WORKERS))
    done = subprocess.run(
        [COMMAND, "doctor", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    expected = [(each["what"], each["status"]) for each in json.loads(done.stdout)]
    told = page.text.partition("What the doctor finds")[2]
    found = re.findall(r'<th scope="row">(.*?)</th>.*?<span class="state \w+">(\w+)</span>', told)
    assert [(unescape(what), status) for what, status in found] == expected
    assert f"are used by {WORKERS} worker(s)" in told
    warned = sum(status == "warn" for _, status in expected)
    assert f"{warned} could be better" in page.text


def test_a_session_for_some_teams_is_not_told_of_all(service: RunningService) -> None:
    operator = service.api_token(Permission.PROJECTIONS_MANAGE, teams=[uuid4()])
    with stopped(service, "usage"), Visitor(service.url) as visiting:
        visiting.sign_in(operator.secret)
        assert visiting.see("/console").headers["location"] == PATH
        page = visiting.see(PATH, examine="1")
    assert page.status_code == 200
    assert "stopped" in text_of(row(page, "usage"))
    assert f'action="{PATH}/usage/retry"' in row(page, "usage")
    for told in ("cannot", "event 7", "events", "Refused since", "What the doctor finds"):
        assert told not in page.text


def test_without_the_permission_it_is_neither_shown_nor_answered(service: RunningService) -> None:
    others = [each for each in Permission if each is not Permission.PROJECTIONS_MANAGE]
    with Visitor(service.url) as visiting:
        visiting.sign_in(service.api_token(*others).secret)
        assert PATH not in visiting.see("/console/tokens").text
        answers = [visiting.see(PATH)]
        answers += [visiting.send(f"{PATH}/{VIEW}/{command}", {}) for command in COMMANDS]
    assert {answer.status_code for answer in answers} == {403}


@pytest.mark.long
def test_the_page_takes_three_statements(
    service: RunningService, visitor: Visitor, statements: list[str]
) -> None:
    secret = visitor.client.cookies[LOOPBACK]
    assert len(asked_for(service, secret, PATH, statements)) == 3


def test_every_reason_and_every_status_has_words_and_a_badge() -> None:
    assert REASONS.keys() == {each for each, outcome in OUTCOMES.items() if outcome != "accepted"}
    assert BADGES.keys() == set(Status)

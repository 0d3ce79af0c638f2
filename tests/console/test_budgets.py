"""Each page, as full as it gets, is at most 40 KB and asks the database three times at most."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import pytest

import api.console
from api.console.cookie import LOOPBACK
from api.console.rendering import ENGINE
from domain.api_token.permissions import Permission
from tests.conftest import new_database
from tests.console.browser.routes import SHOWN
from tests.console.browsing import POLICY, Visitor, hidden
from tests.console.test_setup import link_of
from tests.console.test_system import live_table
from tests.console.test_tokens import asked_for, present
from tests.service import Caller, RunningService, running_service

ASSETS: Final = Path(api.console.__file__).parent / "assets"
SIZE_MAX: Final = 40 * 1024
STATEMENTS_MAX: Final = 3
MANY: Final = 60
NAME: Final = "<&'\">" * 51
REASON: Final = "<&'\">" * 40
ASKED: Final = {
    "/console/tokens": "?team={team}&state=all",
    "/console/tokens/new": "",
    "/console/tokens/revoke": "?team={team}",
    "/console/tokens/{token_id:uuid}": "",
    "/console/audit": "?team={team}",
    "/console/api-tokens": "",
    "/console/api-tokens/new": "",
    "/console/api-tokens/{token_id:uuid}": "",
    "/console/system": "",
    "/console/sign-in": "",
    "/console/setup/{token:str}/{code:str}": "",
}
"""What each page is asked for; a new one without a row fails here."""
FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "/console/tokens/new": {"team_id": "{team}", "name": NAME, "reason": REASON},
    "/console/tokens/revoke": {"conditions": "team", "team": "{spare}", "reason": REASON},
    "/console/tokens/{token_id:uuid}/rotate": {"newest": "{newest}", "reason": REASON},
    "/console/tokens/{token_id:uuid}/setup-link": {"looked_at": "{now}", "reason": REASON},
    "/console/api-tokens/new": {"user_id": "{team}", "audit:read": "yes", "reason": REASON},
    "/console/api-tokens/{token_id:uuid}/rotate": {"looked_at": "{now}", "reason": REASON},
    "/console/setup/{token:str}/{code:str}": {},
}
"""The forms that are answered with a page."""


@dataclass(frozen=True)
class Full:
    """A service with much in it. names: what stands for the parameters of paths and queries."""

    service: RunningService
    names: Mapping[str, str]

    def path(self, route: str) -> str:
        """Of one thing."""
        if "/setup/" in route:
            return self.names["link"]
        command = route.rpartition("/")[2]
        which = "api_token" if "/api-tokens" in route else command
        return route.replace("{token_id:uuid}", self.names.get(which, self.names["token"]))


@pytest.fixture(scope="module")
def full(server: str) -> Iterator[Full]:
    """Names and reasons are as long as they may be, and of what takes most room on a page."""
    with new_database(server) as database, running_service(database) as service:
        admin = service.api_token()
        team, spare = str(uuid4()), str(uuid4())
        tokens = [made(service, admin, team) for _ in range(MANY)]
        for number in range(MANY):
            made(service, admin, spare)
            service.api_token(*Permission, teams=[uuid4() for _ in range(number % 25)] or None)
        busy = tokens[0]
        for number in range(12):
            present(service, busy["token"], agent=f"{number} {'<&>' * 60}")
            for verb in ("suspend", "resume"):
                service.client.post(
                    f"/scim-token/{busy['id']}/{verb}", auth=admin, json={"reason": REASON}
                )
        restrict(service, busy["id"])
        many_teams = service.api_token(*Permission, teams=[uuid4() for _ in range(100)])
        path = f"/scim-token/{tokens[2]['id']}/secrets"
        secrets = service.client.get(path, auth=admin).json()["result"]
        names = {
            "team": team,
            "spare": spare,
            "token": busy["id"],
            "rotate": tokens[2]["id"],
            "setup-link": tokens[3]["id"],
            "api_token": str(many_teams.id),
            "link": link_of(service, admin, tokens[1]["id"]),
            "newest": secrets[-1]["id"],
            "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        yield Full(service, names)


@pytest.fixture
def visitor(full: Full) -> Iterator[Visitor]:
    with Visitor(full.service.url) as visiting:
        visiting.sign_in(full.service.api_token().secret)
        yield visiting


def made(service: RunningService, admin: Caller, team: str) -> dict[str, str]:
    """A token that was used, is rotating, and ends."""
    ends = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="milliseconds")
    body = {"team_id": team, "name": NAME, "reason": REASON, "expires_at": ends}
    answer = service.client.post(
        "/scim-token", json=body, auth=admin, headers={"User-Agent": "<&>'\"" * 40}
    )
    found: dict[str, str] = answer.json()
    present(service, found["token"])
    return found


def restrict(service: RunningService, token_id: str) -> None:
    """From as many networks as there may be, each as long as it may be, and none of them its own;
    and so often rotated that its page tells no more secrets.
    """
    networks = [f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{number:x}" for number in range(5000, 5200)]
    path = f"/console/tokens/{token_id}"
    with Visitor(service.url) as visiting:
        visiting.sign_in(service.api_token().secret)
        fields = {**hidden(visiting.see(path)), "networks": " ".join(networks), "reason": REASON}
        assert visiting.send(f"{path}/allow-networks", fields).status_code == 303
        assert visiting.see(path).status_code == 200, "the view has it"
    used_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    secrets = [
        {"id": f"{number:08x}", "created_at": used_at, "ended_at": None} for number in range(14)
    ]
    service.query(
        f"UPDATE {live_table(service, 'scim_tokens')} SET secrets = %s WHERE id = %s",
        msgspec.json.encode(secrets).decode(),
        token_id,
    )


def test_every_page_has_a_row() -> None:
    assert {route.path for route in SHOWN if route.method == "GET"} == ASKED.keys()
    assert {route.path for route in SHOWN if route.method == "POST"} == FORMS.keys()


@pytest.mark.long
@pytest.mark.parametrize("route", ASKED)
def test_a_page_is_small_and_asks_for_little(
    full: Full, visitor: Visitor, statements: list[str], route: str
) -> None:
    path = full.path(route) + ASKED[route].format(**full.names)
    page = visitor.see(path)
    assert page.status_code == 200
    assert len(page.content) <= SIZE_MAX
    asked = asked_for(full.service, visitor.client.cookies[LOOPBACK], path, statements)
    assert len(asked) <= STATEMENTS_MAX, asked


@pytest.mark.long
@pytest.mark.parametrize("route", FORMS)
def test_what_a_form_is_answered_with_is_small(full: Full, visitor: Visitor, route: str) -> None:
    fields = {name: value.format(**full.names) for name, value in FORMS[route].items()}
    page = visitor.send(full.path(route), {"key": str(uuid4()), **fields})
    assert page.status_code == 200, page.text
    assert len(page.content) <= SIZE_MAX


def test_styles_and_script_are_small_and_kept_by_the_browser(visitor: Visitor) -> None:
    page = visitor.see("/console/tokens").text
    for name, most in (("console.css", 12_288), ("console.js", 5_120), ("icon.svg", 1_000)):
        assert (ASSETS / name).stat().st_size < most
        (path,) = {part for part in page.split('"') if part.endswith(name)}
        answer = visitor.see(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-security-policy"] == POLICY
    assert visitor.see("/console/assets/x/secrets.py").status_code == 404


def test_pages_are_of_the_release_that_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade replaces the files of a process that goes on: it reads none of them any more."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    engine = ENGINE.engine
    names = engine.list_templates()
    assert set(names) == {path.name for path in (ASSETS.parent / "templates").iterdir()}
    assert engine.cache is not None
    engine.cache.clear()
    monkeypatch.setattr("builtins.open", refuse)
    for name in names:
        engine.get_template(name)


@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.iterdir()))
@pytest.mark.parametrize("version", ["0" * 12, "x"])
def test_what_another_release_asks_for_is_kept_nowhere(
    visitor: Visitor, version: str, name: str
) -> None:
    """While it takes this one's place: its pages would have the wrong styles for a year."""
    answer = visitor.see(f"/console/assets/{version}/{name}")
    assert answer.status_code == 200
    assert answer.headers.get_list("cache-control") == ["no-store"]

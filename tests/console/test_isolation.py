"""Each page for people, for a session of another team: foreign looks like missing, and nothing
happens.

The table has a row for each route of the console that is about a token or a team; a new one without
a row fails here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import UUID, uuid4

import httpx
import pytest

from api.console.pages.token import mark_of
from domain.api_token.permissions import Permission
from tests.api.promises.test_permissions import COMMANDS, CONSOLE
from tests.console.browsing import Visitor, hidden
from tests.console.test_tokens import create
from tests.service import Caller, RunningService
from tests.turns import by_turns

ABOUT_NOBODY: Final = {
    ("GET", "/console"),
    ("GET", "/console/sign-in"),
    ("POST", "/console/sign-in"),
    ("POST", "/console/sign-out"),
    ("GET", "/console/tokens/new"),
    ("GET", "/console/setup/{token:str}/{code:str}"),
    ("POST", "/console/setup/{token:str}/{code:str}"),
}
ONE: Final = "/console/tokens/{token_id:uuid}"
API_TOKENS: Final = {route for route in CONSOLE if route[1].startswith("/console/api-tokens")}
"""Their isolation is in `test_api_tokens`."""
SYSTEM: Final = {route for route in CONSOLE if route[1].startswith("/console/system")}
"""What a session for some teams is not told there is in `test_system`."""
LEADS_ON: Final = {("GET", f"{ONE}/{command}") for command in COMMANDS}
"""To the token's page, whatever the token."""
ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOOKED_AT: Final = "2099-01-01T00:00:00.000+00:00"
ABOUT: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("GET", "/console/tokens"): {"team": "{team}", "state": "all"},
    ("POST", "/console/tokens/new"): {"team_id": "{team}", "name": "Okta"},
    ("GET", "/console/tokens/revoke"): {"ids": "{token}"},
    ("POST", "/console/tokens/revoke"): {"ids": "{token}", "conditions": "ids"},
    ("GET", ONE): {},
    ("GET", "/console/audit"): {"token": "{token}"},
    ("GET", "/console/audit/export"): {"team": "{team}"},
    **{
        ("POST", f"{ONE}/{command}"): {
            "looked_at": LOOKED_AT,
            "suspended_at": LOOKED_AT,
            "networks": "192.0.2.0/24",
            "networks_shown": mark_of(()),
        }
        for command in COMMANDS
    },
}
"""The query or the form of each route that is about a team or a token."""


def test_every_route_has_a_row() -> None:
    assert ABOUT.keys() | ABOUT_NOBODY | LEADS_ON | API_TOKENS | SYSTEM == CONSOLE.keys()


@pytest.fixture(scope="module")
def own() -> UUID:
    return uuid4()


@pytest.fixture(scope="module")
def stranger(service: RunningService, own: UUID) -> Iterator[Visitor]:
    """May do everything, for another team."""
    with Visitor(service.url) as visiting:
        visiting.sign_in(service.api_token(*Permission, teams=[own]).secret)
        yield visiting


def ask(
    visitor: Visitor, route: tuple[str, str], *, team: str, token: str, key: str
) -> httpx.Response:
    method, path = route
    path = path.replace("{token_id:uuid}", token)
    fields = {name: value.format(team=team, token=token) for name, value in ABOUT[route].items()}
    if method == "GET":
        return visitor.see(path, **fields)
    if ONE in route[1]:
        fields |= hidden(visitor.see(f"/console/tokens/{token}"))
    return visitor.send(path, {**fields, "key": key})


@pytest.mark.parametrize("route", by_turns([(route,) for route in ABOUT], one_of=3), ids=" ".join)
def test_foreign_looks_like_missing_and_nothing_happens(
    service: RunningService, admin: Caller, stranger: Visitor, route: tuple[str, str]
) -> None:
    foreign = create(service, admin, uuid4(), "The name of another customer")
    before = service.query(
        "SELECT count(*) FROM ledger.events WHERE originator_id = %s", foreign["id"]
    )
    answers = [
        ask(stranger, route, team=team, token=token, key=str(uuid4()))
        for team, token in (
            (foreign["team_id"], foreign["id"]),
            (str(uuid4()), str(uuid4())),
        )
    ]
    told, missing = (
        re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", a.text) for a in answers
    )
    assert answers[0].status_code == answers[1].status_code
    assert (answers[0].status_code == 404) == ("{token_id" in route[1])
    assert told == missing
    assert foreign["name"] not in told
    after = service.query(
        "SELECT count(*) FROM ledger.events WHERE originator_id = %s", foreign["id"]
    )
    assert after == before


@pytest.mark.parametrize("route", by_turns([(route,) for route in ABOUT], one_of=3), ids=" ".join)
def test_one_s_own_is_there(
    service: RunningService, admin: Caller, stranger: Visitor, own: UUID, route: tuple[str, str]
) -> None:
    """Or the test above would hold of a console that shows nothing to anybody."""
    made = create(service, admin, own, "Okta")
    answer = ask(stranger, route, team=str(own), token=made["id"], key=str(uuid4()))
    is_of_rotation = route[1].endswith(("/complete", "/cancel"))
    assert answer.status_code in ({409} if is_of_rotation else {200, 303})

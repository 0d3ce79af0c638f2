"""A page that was made before somebody else did something: its forms undo nothing of that."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from api.console.pages.token import COMMANDS
from tests.console.browsing import Visitor, secrets_in
from tests.console.test_token import at, do, words
from tests.console.test_tokens import create, present
from tests.service import Caller, RunningService

FORM: Final = re.compile(r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', re.DOTALL)
HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]+)">')
STATES: Final = {
    "active": None,
    "rotating": "rotate",
    "suspended": "suspend",
    "restricted": "allow-networks",
}
SHOWN: Final = {
    "rotate": {"newest"},
    "complete": {"older"},
    "cancel": {"newer"},
    "suspend": set[str](),
    "resume": {"suspended_at"},
    "change": {"name_before"},
    "revoke": {"looked_at"},
    "setup-link": {"looked_at"},
    "end-setup-link": {"looked_at"},
    "allow-networks": {"networks_shown"},
    "allow-any-network": {"networks_shown"},
}
"""What the form of each command says of the page that it is on. A suspension undoes nothing."""


@pytest.fixture
def token(service: RunningService, admin: Caller, team: UUID) -> dict[str, Any]:
    return create(service, admin, team, "Okta")


@pytest.fixture
def colleague(service: RunningService, admin: Caller, token: dict[str, Any]) -> Callable[..., Any]:
    """Does something to the token in another window."""

    def ask(command: str, **body: Any) -> Any:
        path = f"/scim-token/{token['id']}/{command}"
        return service.client.post(path, auth=admin, json=body).raise_for_status().json()

    return ask


def forms(page: str) -> dict[str, dict[str, str]]:
    """What each form says of its page, besides its key, by the last part of where it is sent."""
    return {
        action.rpartition("/")[2]: {name: unescape(value) for name, value in HIDDEN.findall(inside)}
        for action, inside in FORM.findall(page)
    }


def recorded(service: RunningService, id_: str) -> list[tuple[Any, ...]]:
    """What was done to a token, but its uses."""
    return service.query(
        "SELECT topic FROM ledger.events WHERE originator_id = %s AND topic NOT LIKE %s",
        id_,
        "%.used.%",
    )


def assert_needs_each_field(
    service: RunningService, visitor: Visitor, path: str, form: dict[str, str], id_: str
) -> None:
    """A form without something that its page has put there is refused, and nothing is done."""
    before = recorded(service, id_)
    for left_out in form.keys() - {"key"}:
        rest = {name: value for name, value in form.items() if name != left_out}
        answer = visitor.send(path, {**rest, "name": "another", "networks": "192.0.2.1"})
        assert answer.status_code == 400, (path, left_out)
        assert recorded(service, id_) == before, (path, left_out)


@pytest.mark.parametrize("state", STATES)
def test_each_command_names_what_its_page_showed(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    colleague: Callable[..., Any],
    state: str,
) -> None:
    if (command := STATES[state]) == "allow-networks":
        do(visitor, token, command, networks="192.0.2.0/24")
    elif command is not None:
        colleague(command)
    found = forms(visitor.see(at(token)).text)
    assert ("allow-any-network" in found) == (state == "restricted")
    for command, form in found.items():
        assert form.keys() == {"key", *SHOWN[command]}
        assert_needs_each_field(service, visitor, at(token, command), form, token["id"])


def test_every_command_is_known_here() -> None:
    assert SHOWN.keys() == {*COMMANDS}


@pytest.mark.parametrize(
    "asked", [("ids",), ("team",), ("created_by",), ("ids", "team", "created_by")]
)
def test_many_are_revoked_by_all_that_chose_them(
    service: RunningService, visitor: Visitor, token: dict[str, Any], asked: tuple[str, ...]
) -> None:
    by = {"ids": token["id"], "team": token["team_id"], "created_by": token["created_by"]}
    look = visitor.see("/console/tokens/revoke", **{field: by[field] for field in asked})
    form = forms(look.text)["revoke"]
    assert form.keys() == {"key", "conditions", "created_before", *asked}
    assert_needs_each_field(service, visitor, "/console/tokens/revoke", form, token["id"])
    assert visitor.send("/console/tokens/revoke", form).status_code == 200


def test_an_api_token_is_rotated_as_it_was_seen(
    service: RunningService, admin: Caller, visitor: Visitor
) -> None:
    asked = {"user_id": str(uuid4()), "permissions": ["scim_tokens:read"]}
    made = service.client.post("/api-token", auth=admin, json=asked).json()
    path = f"/console/api-tokens/{made['id']}"
    form = forms(visitor.see(path).text)["rotate"]
    assert form.keys() == {"key", "looked_at"}
    assert_needs_each_field(service, visitor, f"{path}/rotate", form, made["id"])
    at_once = {"overlap_seconds": 0}
    service.client.post(f"/api-token/{made['id']}/rotate", auth=admin, json=at_once)
    before = recorded(service, made["id"])
    refused = visitor.send(f"{path}/rotate", {**form, "overlap": "0"})
    assert refused.status_code == 400
    assert "another secret was made than the one that was meant" in words(refused.text).lower()
    assert recorded(service, made["id"]) == before


@pytest.mark.parametrize("command", ["rotate", "resume", "setup-link", "end-setup-link"])
def test_what_somebody_did_since_the_page_is_not_undone(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    colleague: Callable[..., Any],
    command: str,
) -> None:
    """The page as it is now says so, and from there it can be done. Rotations: `test_token.py`."""
    secret = token["token"]
    if command == "resume":
        colleague("suspend")
    page = forms(visitor.see(at(token)).text)
    form = page["setup-link" if command == "end-setup-link" else command]
    if command == "rotate":
        secret = colleague("rotate", overlap_seconds=0)["token"]
    elif command == "resume":
        colleague("resume")
        colleague("suspend", reason="it leaked")
    else:
        colleague("setup-link")
    before = recorded(service, token["id"])
    refused = visitor.send(at(token, command), {**form, "overlap": "0"})
    assert refused.status_code == 400
    assert "than the one that was meant; nothing was done" in words(refused.text)
    assert not secrets_in(refused.text)
    assert recorded(service, token["id"]) == before
    now = forms(refused.text)["setup-link" if command == "end-setup-link" else command]
    assert now.keys() == form.keys()
    if command == "rotate":
        present(service, secret)
        assert visitor.send(at(token, command), now).status_code == 429, "ten seconds after another"
    else:
        assert visitor.send(at(token, command), now).status_code in {200, 303}
        assert len(recorded(service, token["id"])) == len(before) + 1


def test_what_nobody_did_differently_is_done(
    visitor: Visitor, token: dict[str, Any], colleague: Callable[..., Any]
) -> None:
    """A suspension that is over already is none to undo."""
    colleague("suspend")
    form = forms(visitor.see(at(token)).text)["resume"]
    colleague("resume")
    assert visitor.send(at(token, "resume"), form).status_code == 303

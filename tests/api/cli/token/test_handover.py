"""`scim-ledger token setup-link` and `end-setup-link`."""

import re

import pytest

from domain.setup_link import CODE_PATTERN
from tests.api.cli.test_commands import TEAM, USER, refused, told
from tests.api.test_settings import NO_BASE_URLS
from tests.conftest import Database
from tests.turns import by_turns

BASE = "https://ledger.example.com/"


def test_a_link_is_printed_and_ended(database: Database) -> None:
    made = told(
        database.app, *("token", "create", "--team", TEAM, "--name", "Okta", "--user", USER)
    )
    line = ("token", "setup-link", made["id"], "--reason", "for their IT")
    link = told(database.app, *line, "--base-url", BASE)
    assert re.fullmatch(f"{BASE}console/setup/{made['id']}/{CODE_PATTERN}", link["url"])
    state = told(database.app, "token", "show-setup-link", made["id"])
    assert (state["state"], state["id"], state["ends_at"]) == ("open", link["id"], link["ends_at"])
    ended = told(database.app, "token", "end-setup-link", made["id"], "--reason", "done")
    assert ended == {"id": made["id"]}
    assert told(database.app, "token", "show-setup-link", made["id"])["state"] == "ended"
    rows = told(database.app, "token", "history", made["id"])
    assert [(row["kind"], row["reason"]) for row in rows][1:] == [
        ("scim_token.setup_link_created", "for their IT"),
        ("scim_token.setup_link_ended", "done"),
    ]


@pytest.mark.parametrize("base", by_turns(NO_BASE_URLS, one_of=5))
def test_a_link_begins_with_an_address(database: Database, base: str) -> None:
    line = ("token", "setup-link", "9c858901-8a57-4791-81fe-4c455b099bc9", "--base-url", base)
    said = refused(database.app, *line, exit_code=2)
    assert said.startswith("--base-url: must be http(s)://host[:port][/path]")

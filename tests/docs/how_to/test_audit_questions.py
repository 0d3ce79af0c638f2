"""docs/how-to/audit-questions.md: each question has its answer in one command."""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated
from tests.service import until

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/audit-questions.md"
TEAM: Final = str(uuid4())
AGENT: Final = "the customer's provider"


class Asked:
    """A machine on which a user made a token, it was used, and the user revoked it."""

    def __init__(self, machine: Prescribed, url: str) -> None:
        self.machine, self.url = machine, url
        self.user = str(uuid4())
        made = json.loads(machine.good(f"scim-ledger api-token create --user {self.user} --json"))
        self.api_token_id, self.api_token = made["id"], made["token"]
        with httpx.Client(base_url=url, headers=bearer(self.api_token), trust_env=False) as ledger:
            asked = {"team_id": TEAM, "name": "Okta provisioning"}
            self.token: dict[str, Any] = ledger.post("/scim-token", json=asked).json()
            self.path = f"/scim-token/{self.token['id']}"
            presented = bearer(self.token["token"]) | {"User-Agent": AGENT}
            assert ledger.get("/scim/v2/Users", headers=presented).status_code == 501
            self.used_at = ledger.get(self.path).json()["last_used_at"]
            ledger.delete(self.path, params={"reason": "left the company"}).raise_for_status()
            assert ledger.get("/scim/v2/Users", headers=presented).status_code == 401
            trail = {"kind": "scim_token.refused"}
            until(lambda: ledger.get("/audit", params=trail).json()["result"] != [], what="it")

    def run(self, word: str) -> str:
        given = {
            "URL": self.url,
            "API_TOKEN": self.api_token,
            "TOKEN_ID": self.token["id"],
            "USER_ID": self.user,
            "SINCE": self.used_at,
        }
        (script,) = blocks(word, document=DOCUMENT)
        words = "\n".join(f"{name}={value}" for name, value in given.items())
        return self.machine.good(f"{words}\n{script}")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with prescribed.prescribed() as machine:
        migrated(machine)
        with machine.serving() as url:
            yield Asked(machine, url)


def test_who_revoked_it_when_from_where_and_why(asked: Asked) -> None:
    _, answer = asked.run("who").splitlines()
    assert answer.split()[1:] == [
        *("scim_token.revoked", "success", "left", "the", "company", asked.user, "127.0.0.1")
    ]
    (row,) = json.loads(asked.run("http"))["result"]
    assert row["reason"] == "left the company"
    assert (row["user_id"], row["api_token_id"]) == (asked.user, asked.api_token_id)
    assert (row["source"], row["at"]) == ("127.0.0.1", answer.split()[0])


def test_what_happened_and_what_the_user_did(asked: Asked) -> None:
    for kind in ("created", "used", "revoked", "refused"):
        assert f"scim_token.{kind}" in asked.run("history")
    assert asked.run("made").count(asked.token["id"]) == 1
    did = asked.run("did")
    assert asked.token["id"] in did
    assert "scim_token.revoked" in did


def test_when_each_secret_was_used_last_and_who_had_access(asked: Asked) -> None:
    _, secret = asked.run("secrets").splitlines()
    assert secret.split()[3] == asked.used_at
    assert "127.0.0.1" in asked.run("used")
    assert asked.run("then").count(asked.token["id"]) == 1


def test_who_was_refused_and_who_may_administer(asked: Asked) -> None:
    refused = asked.run("refused")
    assert asked.token["id"] in refused
    assert "revoked" in refused
    assert asked.token["id"] not in asked.run("network")
    assert asked.api_token_id in asked.run("rules")


def test_the_answers_follow_from_the_events(asked: Asked) -> None:
    assert "damage: -" in asked.run("trust")

"""docs/how-to/answer-a-leak.md, command by command."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import pytest

from tests.api.leaks.published import KEY, KEY_ID
from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/answer-a-leak.md"
CREATE: Final = f"scim-ledger token create --team {uuid4()} --user {uuid4()} --name Okta --json"


@pytest.fixture(scope="module")
def machine() -> Iterator[Prescribed]:
    """Migrated as the how-to says; its service has run."""
    with prescribed.prescribed() as made:
        migrated(made)
        with made.serving():
            pass
        yield made


def only(word: str) -> str:
    (script,) = blocks(word, document=DOCUMENT)
    return script


def _secret_id(machine: Prescribed) -> str:
    """What the search prints."""
    found = re.search(r" secret=([0-9a-f]{8})\b", machine.good(only("find")))
    assert found is not None
    return found[1]


def test_a_leak_is_answered(machine: Prescribed) -> None:
    leaked, marked = (json.loads(machine.good(CREATE)) for _ in range(2))
    (machine.directory / "found.txt").write_text(f"token: {leaked['token']}\n")
    assert "1:8 scim_live state=live " in machine.good(only("find"))
    assert "state=live action=revoked " in machine.good(only("report"))
    assert "state=revoked " in machine.good(only("find"))
    ids = f"TOKEN_ID={leaked['id']}\nSECRET_ID={_secret_id(machine)}\n"
    trail = machine.good(ids + only("trail"))
    assert trail.count("scim_token.leaked") == 2

    (machine.directory / "found.txt").write_text(marked["token"])
    report = only("report")
    assert "action=marked " in machine.good(f"export SCIM_LEDGER_ON_LEAK=mark\n{report}")
    rotated = machine.good(f"MARKED_ID={marked['id']}\n" + only("rotate"))
    assert "token: scim_live_" in rotated
    assert "state=expired " in machine.good(only("find"))


def test_a_leak_is_reported_over_http(machine: Prescribed) -> None:
    made = json.loads(machine.good(CREATE))
    api_token = json.loads(machine.good(f"scim-ledger api-token create --user {uuid4()} --json"))
    with machine.serving() as url:
        script = only("http").replace("http://127.0.0.1:8080", url)
        done = machine.good(f"API_TOKEN={api_token['token']}\nLEAKED={made['token']}\n{script}")
    assert json.loads(done) == [{"state": "live", "action": "revoked", "token_id": made["id"]}]


def test_scanners_get_the_pattern(machine: Prescribed) -> None:
    pattern = machine.good(only("pattern")).strip()
    rule = tomllib.loads((machine.directory / ".gitleaks.toml").read_text())
    assert rule["rules"][0]["regex"] == pattern


def test_github_gets_the_types_and_its_keys_are_looked_at(machine: Prescribed) -> None:
    pytest.importorskip("cryptography", reason="pip install -r requirements-leaks.txt")
    assert "acme_scim_token" in machine.good(only("github"))
    published = json.dumps({"public_keys": [{"key_identifier": KEY_ID, "key": KEY}]})
    (machine.directory / "published").write_text(published)
    script = only("keys").replace(
        "https://api.github.com/meta/public_keys/secret_scanning",
        f"file://{machine.directory}/published",
    )
    assert "reports of leaks are taken" in machine.good(script)


def test_gitlab_gets_an_api_token(machine: Prescribed) -> None:
    made = machine.good(f"USER_ID={uuid4()}\n" + only("gitlab"))
    assert "permissions: leaks:report" in made

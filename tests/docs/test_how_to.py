"""The commands of the other how-tos, on the machine that
docs/how-to/own-postgresql.md prescribes.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.console.browsing import SAME_ORIGIN, secrets_in
from tests.docs import prescribed
from tests.docs.documents import ROOT, blocks
from tests.docs.prescribed import Prescribed, migrated
from tests.service import until

pytestmark = pytest.mark.long

STOPPED: Final = "docs/how-to/a-stopped-view.md"
UNUSED: Final = "docs/how-to/clean-up-unused-tokens.md"
CLOCKS: Final = "docs/how-to/clocks.md"
WARNINGS: Final = "docs/how-to/be-warned.md"
POLICIES: Final = "docs/how-to/ask-for-an-end.md"
ROTATION: Final = "docs/how-to/rotate-a-secret.md"
HAND_OVER: Final = "docs/how-to/hand-over-to-a-customer.md"
PEPPER: Final = "docs/how-to/rotate-the-pepper.md"
CREATE: Final = f"scim-ledger token create --team {uuid4()} --user {uuid4()} --name Okta --json"


@pytest.fixture(scope="module")
def machine() -> Iterator[Prescribed]:
    """Migrated as the how-to says; one token; its service has run."""
    with prescribed.prescribed() as made:
        migrated(made)
        with made.serving():
            made.good(CREATE)
        yield made


def only(word: str, document: str) -> str:
    (script,) = blocks(word, document=document)
    return script


def administer(machine: Prescribed, statement: str) -> list[tuple[Any, ...]]:
    conninfo = machine.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(conninfo, autocommit=True) as administrator:
        cursor = administrator.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_a_stopped_view_is_looked_at_and_mended(machine: Prescribed) -> None:
    administer(
        machine,
        "UPDATE ledger.projection_positions SET stopped_at = 2, error = 'Bug on a token' "
        "WHERE name = 'scim_tokens'",
    )

    def run(word: str) -> str:
        return machine.good(only(word, STOPPED).replace("NAME", "scim_tokens"))

    assert "error: Bug on a token" in run("show")
    assert "damage: -" in run("verify")
    assert "was_stopped: True" in run("retry")
    assert "version: 2" in run("rebuild")
    assert "state: live" in run("show")


def test_whoever_asks_is_warned(machine: Prescribed) -> None:
    asked = f"scim-ledger api-token create --user {uuid4()} --json"
    api_token = json.loads(machine.good(asked))["token"]
    in_twenty_days = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="milliseconds")
    token = json.loads(machine.good(f"{CREATE} --expires-at {in_twenty_days}"))
    with machine.serving() as url:
        given = f"URL={url} API_TOKEN={api_token}\n"
        feed = given + only("feed", WARNINGS)
        until(lambda: token["id"] in machine.good(feed), what="the warning")
        assert json.loads(machine.good(feed))[0]["type"] == "scim_token.expiring"
        assert "scim_token.expiring" in machine.good(only("audit", WARNINGS))
        assert machine.good(only("list", WARNINGS)).count(token["id"]) == 1
        samples = machine.good(given + only("metrics", WARNINGS))
    text = (ROOT / WARNINGS).read_text()
    for expression in (
        'scim_ledger_tokens_expiring{days="30"}',
        'scim_ledger_rotations_ending{days="7"}',
        "scim_ledger_warnings_lag_seconds",
        'scim_ledger_warnings_round_age_seconds{question="silences"}',
    ):
        assert f"expr: {expression} >" in text
        assert f"{expression} " in samples
    assert 'scim_ledger_tokens_expiring{days="30"} 1\n' in samples


def test_more_is_asked_of_new_tokens(machine: Prescribed) -> None:
    team = uuid4()
    token_id = json.loads(machine.good(CREATE))["id"]
    script = only("set", POLICIES)
    assert "max_live_tokens: 2" in machine.good(f"TEAM={team}\n{script}")
    with machine.serving():  # the view is followed
        assert machine.good(only("violations", POLICIES)).count(token_id) == 2
    asked = f"scim-ledger api-token create --user {uuid4()} --permission policies:manage --json"
    api_token = json.loads(machine.good(asked))["token"]
    with machine.serving() as url:
        script = only("put", POLICIES)
        answer = machine.good(f"URL={url} TEAM={team} API_TOKEN={api_token}\n{script}")
        assert json.loads(answer) == {"max_live_tokens": 1, "max_lifetime_days": 90}
    without_an_end = machine.run(
        f"scim-ledger token create --team {team} --user {uuid4()} --name x"
    )
    assert without_an_end.returncode == 1
    assert "the policy asks for an end" in without_an_end.stderr
    machine.good("scim-ledger policy lift")


@pytest.mark.parametrize(("end", "good"), [("complete", [401, 501]), ("cancel", [501, 401])])
def test_a_secret_is_rotated(machine: Prescribed, end: str, good: list[int]) -> None:
    made = json.loads(machine.good(CREATE))
    given = f"TOKEN={made['id']}\n"
    rotated = machine.good(given + only("rotate", ROTATION))
    newer = next(line.split()[1] for line in rotated.splitlines() if line.startswith("token:"))
    with machine.serving() as url:
        watched = machine.good(given + only("watch", ROTATION))
        assert watched.count(made["id"]) == 1
        machine.good(given + only(end, ROTATION))
        for secret, status in zip((made["token"], newer), good, strict=True):
            asked = f"curl -so /dev/null -w '%{{http_code}}' {url}/scim/v2/Users -H "
            assert machine.good(f"{asked}'Authorization: Bearer {secret}'") == str(status)
    assert machine.run(given + only(end, ROTATION)).returncode == 1


def test_a_token_is_handed_over(machine: Prescribed) -> None:
    token = json.loads(machine.good(CREATE))["id"]
    asked = f"scim-ledger api-token create --user {uuid4()} --json"
    api_token = json.loads(machine.good(asked))["token"]

    def run(word: str, given: str = "") -> str:
        return machine.good(f"TOKEN={token}\n{given}\n{only(word, HAND_OVER)}")

    assert f"url: https://ledger.example.com/console/setup/{token}/" in run("link")
    with machine.serving() as url:
        link = json.loads(run("http", f"URL={url} API_TOKEN={api_token}"))
    assert link["url"].startswith(f"{url}/console/setup/{token}/")
    assert "state: open" in run("state")
    assert run("watch").count("scim_token.setup_link_created") == 2
    run("end")
    assert "sent to the wrong person" in run("watch")


@pytest.mark.parametrize("is_in_use", [True, False])
def test_what_the_wrong_person_was_shown_ends(machine: Prescribed, is_in_use: bool) -> None:
    made = json.loads(machine.good(CREATE))
    given = f"TOKEN={made['id']}\n"

    def presented(url: str, secret: str) -> int:
        own = {"Authorization": f"Bearer {secret}"}
        return httpx.get(f"{url}/scim/v2/Users", headers=own, trust_env=False).status_code

    with machine.serving() as url:
        if is_in_use:
            assert presented(url, made["token"]) == 501
        link = machine.good(given + only("link", HAND_OVER)).partition("url: ")[2].split()[0]
        path = link.removeprefix("https://ledger.example.com")
        page = httpx.post(f"{url}{path}", headers=SAME_ORIGIN, trust_env=False)
        (shown,) = secrets_in(page.text)
        assert presented(url, shown) == 501
        if is_in_use:
            machine.good(given + only("cancel", HAND_OVER))
        else:
            assert "no rotation" in machine.run(given + only("cancel", HAND_OVER)).stderr
            replace = given + only("replace", HAND_OVER)
            until(lambda: machine.run(replace).returncode == 0, what="a rotation", timeout_s=30)
        assert presented(url, shown) == 401
        assert presented(url, made["token"]) == (501 if is_in_use else 401)


def test_tokens_that_nobody_uses_are_looked_at_and_revoked(machine: Prescribed) -> None:
    """The tokens of this machine are young: the instant is the next full second."""
    ahead = "SINCE=$(date -u -d '1 second' +%Y-%m-%dT%H:%M:%SZ)"

    def run(word: str, given: str = "") -> str:
        return machine.good(f"{ahead}\n{given}\n{only(word, UNUSED)}")

    assert "matched: 0" in machine.good(only("rehearse", UNUSED)), "none is 90 days old"
    token_id = json.loads(machine.good(CREATE))["id"]
    assert f"id: {token_id}" in run("careful", f"TOKEN={token_id}")
    token_id = json.loads(machine.good(CREATE))["id"]
    done = run("revoke")
    assert token_id in done
    assert "revoked: 0" not in done
    last = json.loads(machine.good("scim-ledger audit list --limit 1 --json"))[0]
    assert last["reason"] == "not used for 90 days"
    assert f"cause: {last['cause']}" in done
    token_id = json.loads(machine.good(CREATE))["id"]
    asked = f"scim-ledger api-token create --user {uuid4()} --permission scim_tokens:write --json"
    api_token = json.loads(machine.good(asked))["token"]
    with machine.serving() as url:
        answer = json.loads(run("http", f"URL={url} API_TOKEN={api_token}"))
    assert (answer["matched"], answer["revoked"]) == (1, 1)
    assert answer["result"][0]["id"] == token_id


def test_a_lost_pepper_is_given_up_by_the_owner_alone(machine: Prescribed) -> None:
    """The last of this file: afterwards the machine's own pepper is not the ledger's."""
    machine.good(only("repair", CLOCKS))  # nothing to do, and so it says
    script = only("repair", PEPPER)
    denied = machine.run(f"unset SCIM_LEDGER_OWNER_DATABASE_URL\n{script}")
    assert (denied.returncode, denied.stdout) == (1, "")
    lost = machine.directory / "pepper"
    keys = lost.read_text()
    try:
        lost.write_text("k" * 43)
        assert machine.run("scim-ledger token list").returncode == 1
        machine.good(script)
        with machine.serving():
            machine.good(CREATE)
    finally:
        lost.write_text(keys)

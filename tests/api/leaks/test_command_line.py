"""`token find-leaked` and `token pattern` as a shell sees them; no secret is ever printed."""

import json
import tomllib
from typing import Final

import pytest

from domain.secret import SecretKind, mint
from tests.api.cli import forked_cli
from tests.api.cli.test_commands import TEAM, USER, refused, run, told
from tests.conftest import Database
from tests.service import service_environment
from tests.turns import by_turns

FOREIGN: Final = mint(SecretKind.SCIM_LIVE, bytes(32), prefix="acme").reveal()


def find(text: bytes, *arguments: str, database_url: str | None = None) -> tuple[int | None, str]:
    """Exit code and output of `token find-leaked` with this standard input."""
    return fed("find-leaked", text, *arguments, database_url=database_url)


def fed(
    verb: str, text: bytes, *arguments: str, database_url: str | None, **variables: str
) -> tuple[int | None, str]:
    environment = service_environment(database_url, **variables)
    if database_url is None:
        environment = {name: value for name, value in environment.items() if "PEPPER" not in name}
    done = forked_cli.run(["token", verb, *arguments], environment, stdin=text)
    assert done.stderr == ""
    return done.exit_code, done.stdout


@pytest.mark.parametrize(
    "text",
    by_turns([FOREIGN[:-1].encode(), b"", b"no secret\n", b"\x00\xff" * 100], one_of=4),
)
def test_where_nothing_is_found_nothing_is_printed(text: bytes) -> None:
    assert find(text) == (0, "")


def test_what_is_found_is_told_by_its_place_and_kind_without_a_ledger() -> None:
    text = f"first\n  token: {FOREIGN}, {FOREIGN}\n".encode()
    assert find(text) == (3, "2:10 scim_live\n2:76 scim_live\n")
    code, lines = find(text, "--json")
    assert code == 3
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"line": 2, "column": 10, "kind": "scim_live"},
        {"line": 2, "column": 76, "kind": "scim_live"},
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_what_windows_saved_is_read(encoding: str) -> None:
    """A redirection of PowerShell is UTF-16: none found would be the wrong answer."""
    code, lines = find(f"first\r\n  token: {FOREIGN}\r\n".encode(encoding))
    assert (code, lines) == (3, "2:10 scim_live\n")


def test_with_a_ledger_it_is_told_whose_they_are_and_whether_they_are_good(
    database: Database,
) -> None:
    made = [
        told(database.app, "token", "create", "--team", TEAM, "--name", "x", "--user", USER)
        for _ in range(2)
    ]
    api = told(database.app, "api-token", "create", "--user", USER)
    told(database.app, "token", "revoke", made[1]["id"])
    secrets = [made[0]["token"], made[1]["token"], api["token"], FOREIGN]
    code, lines = find("\n".join(secrets).encode(), "--json", database_url=database.app)
    assert code == 3
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [(row["kind"], row["state"], row.get("token_id")) for row in rows] == [
        ("scim_live", "live", made[0]["id"]),
        ("scim_live", "revoked", made[1]["id"]),
        ("api_live", "live", api["id"]),
        ("scim_live", "unknown", None),
    ]
    assert all(len(row["secret"]) == 8 for row in rows[:3])
    assert "secret" not in rows[3]
    _, lines = find("\n".join(secrets).encode(), database_url=database.app)
    assert lines.splitlines()[1] == (
        f"2:1 scim_live state=revoked secret={rows[1]['secret']} token_id={made[1]['id']}"
    )
    assert not any(secret[20:] in lines for secret in secrets)


@pytest.mark.parametrize(
    ("on_leak", "action", "state"),
    by_turns([("revoke", "revoked", "revoked"), ("mark", "marked", "live")], one_of=2),
)
def test_a_leak_is_reported_and_the_setting_says_what_follows(
    database: Database, on_leak: str, action: str, state: str
) -> None:
    made = told(database.app, "token", "create", "--team", TEAM, "--name", "x", "--user", USER)
    text = f"{made['token']}\n{FOREIGN}\n{made['token']}".encode()
    where = ("--url", "https://example.com/x?y", "--source", "a look around", "--user", USER)
    setting = {"database_url": database.app, "SCIM_LEDGER_ON_LEAK": on_leak}
    code, lines = fed("report-leak", text, *where, "--json", **setting)
    assert code == 0
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"line": 1, "column": 1, "kind": "scim_live", "state": "live", "action": action}
        | {"token_id": made["id"]},
        {"line": 2, "column": 1, "kind": "scim_live", "state": "unknown", "action": "none"},
        {"line": 3, "column": 1, "kind": "scim_live", "state": state, "action": "none"}
        | {"token_id": made["id"]},
    ]
    history = told(database.app, "token", "history", made["id"], "--kind", "scim_token.leaked")
    (row,) = history
    assert (row["note"], row["reason"], row["user_id"]) == (
        "https://example.com/x",
        "a look around",
        USER,
    )


@pytest.mark.parametrize(
    ("on_leak", "told"), [("revoke", "is revoked"), ("mark", "is marked, and goes on")]
)
def test_the_doctor_says_what_follows_a_leak(database: Database, on_leak: str, told: str) -> None:
    found = run(database.app, "doctor", SCIM_LEDGER_ON_LEAK=on_leak).stdout
    assert f"a SCIM token whose leak is reported {told}" in found


def test_what_follows_a_leak_cannot_be_something_else(database: Database) -> None:
    sentence = "SCIM_LEDGER_ON_LEAK must be revoke or mark"
    assert refused(database.app, "serve", SCIM_LEDGER_ON_LEAK="nothing") == sentence
    assert sentence in run(database.app, "doctor", SCIM_LEDGER_ON_LEAK="nothing").stdout


@pytest.mark.long
def test_a_new_secret_has_the_prefix_and_an_older_one_stays_good(database: Database) -> None:
    create = ("token", "create", "--team", TEAM, "--name", "x", "--user", USER, "--json")
    older = json.loads(run(database.app, *create).stdout)
    named = json.loads(run(database.app, *create, SCIM_LEDGER_SECRET_PREFIX="acme").stdout)
    assert older["token"].startswith("scim_live_")
    assert named["token"].startswith("acme_scim_live_")
    _, lines = find(
        f"{older['token']}\n{named['token']}".encode(), "--json", database_url=database.app
    )
    assert [json.loads(line)["state"] for line in lines.splitlines()] == ["live", "live"]


@pytest.mark.parametrize("prefix", by_turns(["a", "Acme", "a-b", "x" * 17, "ac me"], one_of=3))
def test_a_prefix_that_cannot_be_meant_is_one_sentence(database: Database, prefix: str) -> None:
    sentence = "SCIM_LEDGER_SECRET_PREFIX must be 2 to 16 of the characters a-z and 0-9"
    assert refused(database.app, "serve", SCIM_LEDGER_SECRET_PREFIX=prefix) == sentence
    assert sentence in run(database.app, "doctor", SCIM_LEDGER_SECRET_PREFIX=prefix).stdout


def test_patterns_are_printed_for_each_scanner() -> None:
    (pattern,) = run(None, "token", "pattern").stdout.splitlines()
    assert told(None, "token", "pattern") == {"pattern": pattern}
    rule = tomllib.loads(run(None, "token", "pattern", "--format", "gitleaks").stdout)
    assert rule["rules"][0]["regex"] == pattern
    github = ("token", "pattern", "--format", "github")
    assert refused(None, *github) == (
        "GitHub asks for a prefix that no other issuer has: set SCIM_LEDGER_SECRET_PREFIX"
    )
    types = json.loads(run(None, *github, "--json", SCIM_LEDGER_SECRET_PREFIX="acme").stdout)
    assert [each["type"] for each in types] == ["acme_scim_token", "acme_api_token"]

"""`scim-ledger` as a shell sees it: one clear line on an error, JSON on request, exit codes."""

import json
import socket
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from cyclopts import App

from api.cli.commands import app
from api.cli.console import LIST_MAX
from domain.api_token.permissions import Permission
from domain.postgres.migrate import available
from domain.secret import parse
from tests.api.cli import forked_cli
from tests.api.cli.forked_cli import Done
from tests.api.expected import FIELDS, INSTANT
from tests.conftest import Database
from tests.domain.api_tokens.many import everyone, fill
from tests.domain.scenario import T0
from tests.service import service_environment
from tests.turns import by_turns

TEAM, USER, OTHER = (str(uuid4()) for _ in range(3))
START_TIMEOUT_S: Final = 60
VALUE: Final = "hunter2hunter2hunter2"
"""A value that no line may repeat."""


def run(database_url: str | None, *arguments: str, **variables: str) -> Done:
    return forked_cli.run(arguments, service_environment(database_url, **variables))


def told(database_url: str | None, *arguments: str) -> Any:
    """What a command that went well prints with --json."""
    done = run(database_url, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def refused(database_url: str | None, *arguments: str, exit_code: int = 1, **variables: str) -> str:
    """The one clear line of a command that went wrong. exit_code: 2 where it cannot be meant."""
    done = run(database_url, *arguments, **variables)
    assert done.exit_code == exit_code, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert VALUE not in done.stderr
    line, *more = done.stderr.splitlines()
    assert not more, done.stderr
    assert line.startswith("scim-ledger: ")
    return line.removeprefix("scim-ledger: ")


def test_api_tokens_are_created_listed_and_revoked(database: Database) -> None:
    made = told(
        database.app,
        *("api-token", "create", "--user", USER, "--team", TEAM, "--team", OTHER),
        *("--permission", "scim_tokens:read", "--permission", "scim_tokens:write"),
    )
    secret = made.pop("token")
    assert parse(secret).kind == "api_live_"
    assert list(made) == [
        *(
            "id",
            "user_id",
            "teams",
            "permissions",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )
    ]
    assert (made["user_id"], made["teams"]) == (USER, [TEAM, OTHER])
    assert made["permissions"] == ["scim_tokens:read", "scim_tokens:write"]
    assert INSTANT.fullmatch(made["expires_at"])

    assert told(database.app, "api-token", "list") == [made]
    confined = told(database.app, "api-token", "create", "--user", USER, "--team", TEAM)
    assert confined["permissions"] == ["scim_tokens:read", "scim_tokens:write", "audit:read"]
    assert told(database.app, "api-token", "show", confined["id"]) | {"token": None} == (
        confined | {"token": None}
    )
    told(database.app, "api-token", "revoke", confined["id"], "--reason", "left the company")
    assert INSTANT.fullmatch(told(database.app, "api-token", "show", confined["id"])["revoked_at"])
    assert told(database.app, "api-token", "revoke", made["id"]) == {"id": made["id"]}
    revoked = told(database.app, "api-token", "list")[0]
    assert INSTANT.fullmatch(revoked["revoked_at"])

    pages = [
        each
        for after in ((), ("--after", made["id"]), ("--after", confined["id"]))
        for each in told(database.app, "api-token", "list", "--limit", "1", *after)
    ]
    assert pages == told(database.app, "api-token", "list")
    assert run(database.app, "api-token", "list", "--limit", "0").exit_code == 2
    listed = run(database.app, "api-token", "list")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert made["id"] in listed.stdout
    assert secret not in listed.stdout


def test_every_api_token_is_listed_however_many_there_are(database: Database) -> None:
    fill(database, LIST_MAX + 1, at=T0)
    found = told(database.app, "api-token", "list")
    assert [each["id"] for each in found] == [str(each.id) for each in everyone(database)[::-1]]


def test_scim_tokens_are_created_listed_shown_and_revoked(database: Database) -> None:
    made = told(
        database.app, "token", "create", "--team", TEAM, "--name", "Okta 🚀", "--user", USER
    )
    assert parse(made.pop("token")).kind == "scim_live_"
    assert made["name"] == "Okta 🚀"
    assert made["created_by"] == USER
    assert {*FIELDS} < {*made}
    assert told(database.app, "token", "show", made["id"]) == made
    assert told(database.app, "token", "revoke", made["id"], "--reason", "left") == {
        "id": made["id"]
    }
    assert INSTANT.fullmatch(told(database.app, "token", "show", made["id"])["revoked_at"])
    assert told(database.app, "token", "list", "--team", TEAM) == []


def test_without_json_one_thing_is_told_line_by_line(database: Database) -> None:
    done = run(database.app, "token", "create", "--team", TEAM, "--name", "Okta", "--user", USER)
    assert (done.exit_code, done.stderr) == (0, "")
    fields = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert fields["team_id"] == TEAM
    assert fields["last_used_at"] == "-"
    assert parse(fields["token"]).kind == "scim_live_"


def test_views_are_listed_and_rebuilt(database: Database) -> None:
    views = told(database.app, "projections", "list")
    assert {"scim_tokens"} <= {view["name"] for view in views}
    assert all(view["state"] == "live" and view["lag"] == 0 for view in views)
    assert {"name", "version", "state", "position", "head", "lag", "error"} <= {*views[0]}
    assert told(database.app, "projections", "rebuild", "scim_tokens") == {
        "name": "scim_tokens",
        "version": 2,
    }


def test_migrate_is_done_once(empty_database: str) -> None:
    first, second = (told(empty_database, "migrate") for _ in range(2))
    assert first["applied"] == sorted(available())
    assert first["version"] == max(available())
    assert second == {"applied": [], "version": first["version"]}


def test_migrate_tells_how_far_the_database_is_and_not_this_release(database: Database) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("INSERT INTO ledger.migrations (number, is_expansion) VALUES (9999, true)")
    assert told(database.owner, "migrate") == {"applied": [], "version": 9999}


def test_doctor_tells_what_keeps_it_from_looking(database: Database) -> None:
    done = run(database.app, "doctor", "--json", SCIM_LEDGER_PORT=VALUE)
    assert done.exit_code == 1
    assert VALUE not in done.stdout
    assert (
        json.loads(done.stdout)[-1]["found"]
        == "SCIM_LEDGER_PORT must be a whole number without a unit"
    )
    absent = run(_unreachable(), "doctor", "--json")
    assert absent.exit_code == 1
    assert json.loads(absent.stdout)[-1]["what"] == "database"


@pytest.mark.parametrize(
    ("arguments", "said"),
    by_turns(
        [
            (("token", "show", "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"), "no such token"),
            (("token", "revoke", "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"), "no such token"),
            (("api-token", "show", "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"), "no such API token"),
            (
                ("token", "list", "--status", VALUE),
                "--status: must be active, suspended, revoked, expired or all",
            ),
            (("token", "list", "--limit", "-1"), "--limit: must be 1 to 1000"),
            (("token", "list", "--limit", "5", "--limit", "5"), "--limit: is given twice"),
            (
                ("token", "revoke", USER, "--if-unused-since", "2999-01-01T00:00:00Z"),
                "--if-unused-since: is in the future",
            ),
            (
                ("token", "revoke-many", "--unused-since", "2999-01-01T00:00:00Z", "--confirm"),
                "--unused-since: is in the future",
            ),
            (
                (
                    "api-token",
                    "create",
                    "--user",
                    USER,
                    "--never-expires",
                    "--expires-in-days",
                    "5",
                ),
                "--never-expires: cannot go with --expires-in-days",
            ),
            (
                ("token", "create", "--team", TEAM, "--user", USER, "--name", " "),
                "--name: must not be blank",
            ),
            (
                ("api-token", "create", "--user", USER, "--permission", "root"),
                f"--permission: must be one of {', '.join(Permission)}",
            ),
            (
                ("api-token", "create", "--user", USER, "--expires-in-days", "99999999999"),
                "--expires-in-days: must be 1 to 36500",
            ),
            (
                (
                    "token",
                    "create",
                    "--team",
                    TEAM,
                    "--user",
                    USER,
                    "--name",
                    "n",
                    "--expires-at",
                    "2999-01-01T00:00:00",
                ),
                "--expires-at: needs a time zone, such as a Z at the end",
            ),
        ],
        one_of=3,
    ),
    ids=[
        "absent",
        "absent to revoke",
        "absent API token",
        "status",
        "limit",
        "twice",
        "unused in the future",
        "many unused in the future",
        "no end and an end",
        "name",
        "permission",
        "lifetime",
        "naive",
    ],
)
def test_a_refusal_is_one_clear_line(
    database: Database, arguments: tuple[str, ...], said: str
) -> None:
    exit_code = 1 if said.startswith("no such") else 2
    assert refused(database.app, *arguments, exit_code=exit_code) == said


@pytest.mark.parametrize(
    ("arguments", "said", "exit_code"),
    [
        (("token", "show", "Okta"), "Okta", 2),
        (("token", "create", "--team", TEAM), "--name", 2),
        (("serve", "--prot", "8080"), "--prot", 2),
        (("token",), "Usage", 0),
    ],
)
def test_a_usage_error_is_told_and_not_a_traceback(
    database: Database, arguments: tuple[str, ...], said: str, exit_code: int
) -> None:
    done = run(database.app, *arguments)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.exit_code == exit_code


def test_settings_that_cannot_be_meant_are_one_clear_line(database: Database) -> None:
    assert (
        refused(database.app, "serve", SCIM_LEDGER_PROT=VALUE)
        == "unknown setting SCIM_LEDGER_PROT; do you mean SCIM_LEDGER_PORT?"
    )
    assert (
        refused(database.app, "serve", SCIM_LEDGER_PORT=VALUE)
        == "SCIM_LEDGER_PORT must be a whole number without a unit"
    )
    said = "with DATABASE_URL a pepper is needed: set SCIM_LEDGER_PEPPER_FILE"
    assert refused(database.app, "serve", SCIM_LEDGER_PEPPER="") == said
    said = "each key of the pepper needs at least 32 bytes"
    assert refused(database.app, "serve", SCIM_LEDGER_PEPPER=VALUE) == said


def test_a_database_that_cannot_be_used_is_one_clear_line(
    database: Database, empty_database: str
) -> None:
    said = (
        "nothing listens at the host and port of DATABASE_URL: start the server, or correct them; "
        "then repeat it"
    )
    assert refused(_unreachable(), "serve") == said
    assert refused(_unreachable(), "migrate") == said
    said = "the database lacks migrations of this release: run scim-ledger migrate"
    assert refused(empty_database, "serve") == said
    unsafe = refused(database.app, "serve", SCIM_LEDGER_ALLOW_UNSAFE_DATABASE="false")
    assert unsafe.startswith("the database may lose confirmed events: ")
    assert "fsync=off" in unsafe


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_malformed_database_url_is_not_quoted(command: str) -> None:
    said = "DATABASE_URL is not a connection string of PostgreSQL: "
    assert refused(f"postgres//user:{VALUE}@host/ledger", command).startswith(said)


def test_a_port_in_use_is_one_clear_line(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = f"port {port} on 127.0.0.1 is in use: end what listens there, or name another "
        assert refused(database.app, "serve", "--port", str(port)) == f"{said}(--port)"


def commands(group: App, *path: str) -> Iterator[tuple[str, App]]:
    """Every command with its name."""
    for name in group:
        if not name.startswith("-"):
            yield from commands(group[name], *path, name)
    if group.default_command is not None:
        yield " ".join(path), group


@pytest.mark.parametrize(
    "command", [pytest.param(each, id=name) for name, each in commands(app) if name]
)
def test_every_command_and_every_option_says_what_it_does(command: App) -> None:
    assert command.help
    options = [option for option in command.assemble_argument_collection() if option.show]
    assert [option.name for option in options if not option.parameter.help] == []


def _unreachable() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    return f"postgresql://user:{VALUE}@127.0.0.1:{port}/ledger"

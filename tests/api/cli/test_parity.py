"""D6: everything that can be read over HTTP can be read with `scim-ledger`,
narrowed by the same filters.

A route without a verb here, or a parameter without a flag, fails: give it one, or say why it has
none.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from cyclopts import App
from litestar.testing import TestClient

from api.app import build
from api.cli.commands import app
from api.settings import Settings
from tests.api.cli.test_commands import commands
from tests.api.cli.test_flags import arguments
from tests.service import PEPPER_KEY

VERBS: Final = {
    "listScimTokens": "token list",
    "createScimToken": "token create",
    "getScimToken": "token show",
    "deleteScimToken": "token revoke",
    "rotateScimToken": "token rotate",
    "createApiToken": "api-token create",
    "listApiTokens": "api-token list",
    "getApiToken": "api-token show",
    "deleteApiToken": "api-token revoke",
    "revokeScimTokens": "token revoke-many",
    "rotateApiToken": "api-token rotate",
    "listScimTokenSecrets": "token secrets",
    "changeScimToken": "token change",
    "suspendScimToken": "token suspend",
    "resumeScimToken": "token resume",
    "getScimTokenNetworks": "token networks",
    "setScimTokenNetworks": "token allow-networks",
    "deleteScimTokenNetworks": "token allow-any-network",
    "createSetupLink": "token setup-link",
    "getSetupLink": "token show-setup-link",
    "endSetupLink": "token end-setup-link",
    "completeScimTokenRotation": "token complete-rotation",
    "cancelScimTokenRotation": "token cancel-rotation",
    "listScimTokenEvents": "token history",
    "getScimTokenUsage": "token usage",
    "getPolicy": "policy show",
    "getTeamPolicy": "policy show",
    "setPolicy": "policy set",
    "setTeamPolicy": "policy set",
    "reportLeaks": "token report-leak",
    "listAuditEvents": "audit list",
    "followEvents": "audit feed",
    "listProjections": "projections list",
    "getProjection": "projections show",
    "getProjectionRebuild": "projections rebuild-status",
    "rebuildProjection": "projections rebuild",
    "retryProjection": "projections retry",
    "metrics": "projections list",
    "readiness": "doctor",
}
_A_DOOR: Final = "a door: it takes a secret, and no command asks for one"
WITHOUT: Final = {
    "verifyScimToken": _A_DOOR,
    "introspectScimToken": _A_DOOR,
    "burnScimToken": _A_DOOR,
    "whoami": "the command line has no API token; api-token show tells of any",
    "liveness": "whether an HTTP process answers is for whoever asks it over HTTP",
}
FLAGS: Final = {
    "team_id": "--team",
    "token_id": "--token",
    "user_id": "--user",
    "api_token_id": "--api-token",
}
FLAGS_BY_VERB: Final = {
    ("token list", "next_cursor"): "--after",
    ("api-token list", "next_cursor"): "--after",
    **{(verb, "from"): "--since" for verb in ("audit list", "token history", "token usage")},
    **{(verb, "to"): "--until" for verb in ("audit list", "token history", "token usage")},
    ("audit list", "order"): "--oldest-first",
    ("api-token create", "user_id"): "--user",
    ("api-token create", "teams"): "--team",
    ("api-token create", "permissions"): "--permission",
    ("api-token create", "expires_at"): "--expires-in-days",
    ("token revoke-many", "dry_run"): "--confirm",
    ("token revoke-many", "ids"): "--token",
    ("token allow-networks", "networks"): "NETWORK",
}
_WHOLE: Final = "all of it is told, oldest first; audit list and audit export have --token"
NO_FLAG: Final = {
    ("audit list", "next_cursor"): "audit export tells all",
    ("audit list", "format"): "audit export has it",
    **{("token history", name): _WHOLE for name in ("order", "limit", "next_cursor", "format")},
    ("audit feed", "wait"): "audit tail --follow waits",
    ("token report-leak", "token"): "standard input holds it: no command asks for a secret",
    ("token revoke-many", "where"): "each condition in it is a flag of its own",
}
OWN: Final = {
    "token create": {"--user": "an API token has a user of its own"},
    "token rotate": {"--user": "an API token has a user of its own"},
    "token complete-rotation": {"--user": "an API token has a user of its own"},
    "token cancel-rotation": {"--user": "an API token has a user of its own"},
    "token revoke": {
        "--user": "an API token has a user of its own",
        "--if-unused-since": "over HTTP it is the header If-Unused-Since",
    },
    "token change": {
        "--user": "an API token has a user of its own",
        "--never-expires": "over HTTP, that is a null",
    },
    "token allow-networks": {
        "--user": "an API token has a user of its own",
        "--dry-run": "over HTTP, whoever may read the trail compares",
    },
    "token allow-any-network": {"--user": "an API token has a user of its own"},
    "token suspend": {"--user": "an API token has a user of its own"},
    "token setup-link": {
        "--user": "an API token has a user of its own",
        "--base-url": "over HTTP, the address is that of the request",
    },
    "token end-setup-link": {"--user": "an API token has a user of its own"},
    "token resume": {"--user": "an API token has a user of its own"},
    "policy show": {"--team": "another path"},
    "policy set": {"--team": "another path", "--user": "an API token has a user of its own"},
    "api-token create": {"--never-expires": "over HTTP, that is an end left out"},
    "token report-leak": {"--user": "an API token has a user of its own"},
    "token revoke-many": {"--user": "an API token has a user of its own"},
    "projections rebuild": {"--all": "one request after another does that"},
}
EVERYWHERE: Final = {"--data-dir", "--json", "TOKEN-ID", "NAME"}
"""What every command has, and the path's own parameters."""
COMMANDS: Final[Mapping[str, App]] = dict(commands(app))
DOCS: Final = Path(__file__).resolve().parents[3] / "docs"
METHODS: Final = {"get", "put", "post", "delete", "patch"}


def _document() -> dict[str, Any]:
    settings = Settings(database_url="postgresql://127.0.0.1:1/nothing", pepper=PEPPER_KEY)
    with TestClient(build(settings)) as client:
        found: dict[str, Any] = client.get("/docs/openapi.json").json()
    return found


DOCUMENT: Final = _document()
OPERATIONS: Final[Mapping[str, dict[str, Any]]] = {
    operation["operationId"]: operation
    for path in DOCUMENT["paths"].values()
    for method, operation in path.items()
    if method in METHODS
}


def asked(operation: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a request may say in its query or in its JSON body, with the schema."""
    for parameter in OPERATIONS[operation].get("parameters", ()):
        if parameter["in"] == "query":
            yield parameter["name"], parameter["schema"]
    body = (
        OPERATIONS[operation].get("requestBody", {}).get("content", {}).get("application/json", {})
    )
    yield from fields(body.get("schema", {}))


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of an object, and of the objects in it."""
    for part in plain(schema):
        for name, field in part.get("properties", {}).items():
            yield name, field
            yield from fields(field)


ROUTES: Final = {
    operation["operationId"]: f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}


def plain(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a schema is made of; one that leads nowhere else is its own."""
    parts = [*schema.get("oneOf", ()), *schema.get("allOf", ())]
    if "items" in schema:  # each of them is asked the same
        parts.append(schema["items"])
    if "$ref" in schema:
        parts.append(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if not parts:
        yield schema
    for part in parts:
        yield from plain(part)


def flag_of(verb: str, name: str) -> str:
    return FLAGS_BY_VERB.get((verb, name), FLAGS.get(name, f"--{name.replace('_', '-')}"))


def flags_of(verb: str) -> set[str]:
    """Every argument of a command, as an operator names it."""
    switches = {
        argument.name
        for argument in COMMANDS[verb].assemble_argument_collection()
        if argument.name != "*" and argument.hint is bool
    }
    return switches | arguments(COMMANDS[verb]).keys()


def test_every_operation_has_a_verb_or_a_reason() -> None:
    assert OPERATIONS.keys() == VERBS.keys() | WITHOUT.keys()
    assert not VERBS.keys() & WITHOUT.keys()
    assert set(VERBS.values()) <= COMMANDS.keys()


@pytest.mark.parametrize(("operation", "verb"), VERBS.items())
def test_every_parameter_has_a_flag_or_a_reason(operation: str, verb: str) -> None:
    names = {name for name, _ in asked(operation)}
    wanted = {flag_of(verb, name) for name in names if (verb, name) not in NO_FLAG}
    assert wanted <= flags_of(verb)
    assert {name for given, name in NO_FLAG if given == verb} <= names
    if operation not in {"metrics", "readiness"}:
        assert flags_of(verb) - wanted - EVERYWHERE == OWN.get(verb, {}).keys()


def test_the_reference_lists_every_command_with_its_operations() -> None:
    text = (DOCS / "reference" / "command-line.md").read_text("utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    found = {command.strip(" `"): {*re.findall("`(.*?)`", routes)} for command, routes in rows}
    assert found.keys() == COMMANDS.keys() - {""}
    told = {verb: {ROUTES[name] for name in VERBS if VERBS[name] == verb} for verb in found}
    assert found == told | {"audit export": told["audit list"]}

"""D6: everything that can be read over HTTP can be read with `scim-ledger`, narrowed by the same filters.

A route without a verb here, or a parameter without a flag, fails: give it one, or say why it has none.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import pytest
from cyclopts import App
from litestar.testing import TestClient

from api.app import build
from api.cli import app
from api.settings import Settings
from tests.api.test_cli import commands, refused, run, told
from tests.api.test_cli_flags import arguments
from tests.conftest import catch_up, new_database
from tests.domain.scenario import (
    MILLISECOND,
    MINUTE,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    TOKEN_ID,
    created,
    revoked,
    rotated,
    used,
)
from tests.domain.scenario import refused as turned_away
from tests.projections.given_events import record
from tests.service import PEPPER_KEY, Caller, RunningService, running_service

VERBS: Final = {
    "listScimTokens": "token list",
    "createScimToken": "token create",
    "getScimToken": "token show",
    "deleteScimToken": "token revoke",
    "rotateScimToken": "token rotate",
    "listScimTokenEvents": "token history",
    "getScimTokenUsage": "token usage",
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
    **{(verb, "from"): "--since" for verb in ("audit list", "token history", "token usage")},
    **{(verb, "to"): "--until" for verb in ("audit list", "token history", "token usage")},
    ("audit list", "order"): "--oldest-first",
}
_WHOLE: Final = "all of it is told, oldest first; audit list and audit export have --token"
NO_FLAG: Final = {
    ("audit list", "next_cursor"): "audit export tells all",
    ("audit list", "format"): "audit export has it",
    **{("token history", name): _WHOLE for name in ("order", "limit", "next_cursor", "format")},
    ("audit feed", "wait"): "audit tail --follow waits",
}
OWN: Final = {
    "token create": {"--user": "an API token has a user of its own"},
    "token rotate": {"--user": "an API token has a user of its own"},
    "token revoke": {"--user": "an API token has a user of its own"},
    "projections rebuild": {"--all": "one request after another does that"},
}
EVERYWHERE: Final = {"--data-dir", "--json", "TOKEN-ID", "NAME"}
"""What every command has, and the path's own parameters."""
COMMANDS: Final[Mapping[str, App]] = dict(commands(app))
DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
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
    body = OPERATIONS[operation].get("requestBody", {}).get("content", {}).get("application/json", {})
    for part in plain(body.get("schema", {})):
        yield from part.get("properties", {}).items()


ROUTES: Final = {
    operation["operationId"]: f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}


def plain(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a schema is made of; one that leads nowhere else is its own."""
    parts = [*schema.get("oneOf", ()), *schema.get("allOf", ())]
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


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[RunningService]:
    """Three tokens' lives in two teams, and a view that was rebuilt."""
    with new_database(server) as database:
        record(database, created(T0), used(T0 + MINUTE), token_id=TOKEN_ID)
        record(database, created(T1, name="Entra", expires_at=T3), rotated(T1 + MINUTE), turned_away(T2))
        record(database, created(T2), used(T3), revoked(T4))
        with running_service(database) as service:
            catch_up(database)
            assert run(database.app, "projections", "rebuild", "usage").exit_code == 0
            yield service


@pytest.fixture(scope="module")
def auditor(ledger: RunningService) -> Caller:
    return ledger.api_token()


SAMPLES: Final = {
    "uuid": [str(TEAM_ID), str(TOKEN_ID), str(UUID(int=1)), str(UUID(int=2)), str(UUID(int=3))],
    "date-time": [T0.isoformat(), T1.isoformat(), T3.isoformat(), "2024-02-29T00:00:00.001+05:30"],
    "name": ["Okta", "Entra", "nobody's"],
    "source": ["192.0.2.1", "192.0.2.0/24", "2001:db8::1"],
}


def samples(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """Values that a parameter takes."""
    for part in plain(schema):
        one = part.get("items", part)
        if "enum" in one:
            yield from (value for value in one["enum"] if value is not None)
        elif one["type"] == "boolean":
            yield "true"
        elif one["type"] == "integer":
            yield from map(str, (1, 2, 3))
        elif one["type"] == "string":
            yield from SAMPLES[one.get("format", name)]


class Read(NamedTuple):
    """One parameter of one operation, and its command."""

    path: str
    verb: str
    name: str
    values: list[str]


READS: Final = [
    Read(path, verb, name, [*samples(name, schema)])
    for path, methods in DOCUMENT["paths"].items()
    if "get" in methods and (verb := VERBS.get(methods["get"]["operationId"])) is not None
    for name, schema in asked(methods["get"]["operationId"])
    if (verb, name) not in NO_FLAG and name != "next_cursor"
]
PLACES: Final = {"TOKEN-ID": str(TOKEN_ID), "NAME": "usage"}
ALIKE: Final = {"token history": {"order": "oldest"}}
"""What the command does always, and the API when it is asked to."""


def words(verb: str, name: str, value: str) -> list[str]:
    """The command line that asks the same."""
    places = [PLACES[place] for place in arguments(COMMANDS[verb]) if place in PLACES]
    flag = flag_of(verb, name)
    is_switch = flag not in arguments(COMMANDS[verb])
    if is_switch:
        return [*verb.split(), *places, *([] if value == "newest" else [flag])]
    return [*verb.split(), *places, flag, value]


@pytest.mark.parametrize("read", READS, ids=[f"{read.verb} {read.name}" for read in READS])
def test_a_command_reads_what_the_api_reads(ledger: RunningService, auditor: Caller, read: Read) -> None:
    for value in read.values:
        before = over_http(ledger, auditor, read, value)
        done = run(ledger.database.app, *words(read.verb, read.name, value), "--json")
        after = over_http(ledger, auditor, read, value)  # the calls are recorded, too
        if isinstance(before, int):
            assert (done.exit_code, before) in {(2, 400), (1, 404)}, done
        else:
            assert done.exit_code == 0, done
            found = json.loads(done.stdout)
            assert is_alike(before, found) or is_alike(after, found), (value, before, found)


def over_http(ledger: RunningService, auditor: Caller, read: Read, value: str) -> Any:
    """The answer's JSON, or the status of a refusal."""
    params = {read.name: value, **ALIKE.get(read.verb, {})}
    answer = ledger.client.get(read.path.format(token_id=TOKEN_ID), params=params, auth=auditor)
    return answer.json() if answer.status_code == 200 else answer.status_code


def is_alike(answer: Any, found: Any) -> bool:
    """Whether a command's JSON tells what the answer tells."""
    if isinstance(answer, list):
        return bool([event["data"] for event in answer] == found["result"])
    if "result" in answer:
        return bool(answer["result"] == found)
    return bool(answer.items() <= found.items())


def test_pages_lead_to_every_token_once(ledger: RunningService, auditor: Caller) -> None:
    whole = [token["id"] for token in told(ledger.database.app, "token", "list", "--status", "all")]
    found: list[str] = []
    while len(found) < len(whole):
        place = ["--after", found[-1]] if found else []
        page = told(ledger.database.app, "token", "list", "--status", "all", "--limit", "1", *place)
        found += [token["id"] for token in page]
        assert len(page) == 1
    assert found == whole
    assert told(ledger.database.app, "token", "list", "--status", "all", "--after", found[-1]) == []
    assert refused(ledger.database.app, "token", "list", "--after", str(uuid4())) == "no such aggregate"
    assert refused(ledger.database.app, "token", "list", "--after", str(auditor.id)) == "no such token"


def test_the_feed_goes_on_where_it_stopped(ledger: RunningService) -> None:
    whole = told(ledger.database.app, "audit", "list", "--oldest-first", "--until", "2022-01-01T00:00:00Z")
    kinds = ["--kind", "scim_token.created", "--kind", "scim_token.used"]
    found: list[dict[str, Any]] = []
    after = 0
    for _ in range(len(whole)):
        page = told(ledger.database.app, "audit", "feed", "--after", str(after), "--limit", "1", *kinds)
        assert page["next"] >= after
        found, after = found + page["result"], page["next"]
    assert found == [row for row in whole if row["kind"] in kinds]
    beyond = told(ledger.database.app, "audit", "feed", "--after", str(after), "--kind", "api_token.revoked")
    assert beyond["result"] == []
    assert beyond["next"] >= whole[-1]["position"]


def test_the_feed_is_a_table_and_the_next_place_for_people(ledger: RunningService) -> None:
    header, first, last = run(ledger.database.app, "audit", "feed", "--limit", "1").stdout.splitlines()
    assert header.split() == ["position", "at", "kind", "outcome", "token", "team", "by"]
    assert first.split()[:3] == ["1", "2021-08-10T10:00:00.000Z", "scim_token.created"]
    assert last == "next: 1"


def test_a_token_is_shown_as_it_was_also_once_it_is_revoked(ledger: RunningService) -> None:
    (token_id,) = (token["id"] for token in told(ledger.database.app, "token", "list", "--status", "revoked"))

    def at(instant: datetime) -> Any:
        return told(ledger.database.app, "token", "show", token_id, "--as-of", instant.isoformat())

    assert refused(ledger.database.app, "token", "show", token_id, "--as-of", T1.isoformat()) == (
        "no such aggregate"
    )
    assert (at(T2)["last_used_at"], at(T2)["revoked_at"]) == (None, None)
    assert at(T3 - MILLISECOND) == at(T2)
    assert (at(T3)["last_used_at"], at(T3)["revoked_at"]) == ("2021-08-10T13:00:00.000Z", None)
    assert at(T4)["revoked_at"] == "2021-08-10T14:00:00.000Z"
    assert at(T4) == told(ledger.database.app, "token", "show", token_id)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("token show {} --as-of 2999-01-01T00:00:00Z", "--as-of: is in the future"),
        ("token show {} --as-of 2021-08-10T10:00:00", "--as-of: needs a time zone, such as a Z at the end"),
        ("token list --as-of 2999-01-01T00:00:00Z", "--as-of: is in the future"),
        ("token list --as-of 0001-01-01T00:00:00+14:00", "--as-of: is out of range"),
        ("token list --unused-since 9999-12-31T23:59:59-14:00", "--unused-since: is out of range"),
        ("token list --as-of 2022-01-01T00:00:00Z --never-used", "--never-used: cannot go with --as-of"),
        (
            "token usage {} --since 2021-01-01T00:00:00Z --until 2021-01-01T00:00:00Z",
            "--since: must be before --until, by 999 steps at most",
        ),
        ("token usage {} --step week", "--step: 'week' is not one of hour, day"),
        (
            "audit list --since 2021-01-02T00:00:00Z --until 2021-01-01T00:00:00Z",
            "--since: must not be after --until",
        ),
        ("token history {} --outcome maybe", "--outcome: must be success or refused"),
        ("audit feed --limit 0", "--limit: must be 1 to 1000"),
        ("audit feed --after -1", "--after: must be 0 to "),
        ("audit feed --after 99999999999999999999", "--after: must be 0 to "),
        ("projections rebuild-status x", "NAME: must be one of "),
    ],
)
def test_what_cannot_be_asked_is_told(ledger: RunningService, line: str, said: str) -> None:
    words = line.format(TOKEN_ID).split()
    assert refused(ledger.database.app, *words, exit_code=2).startswith(said)


def test_a_rebuild_is_told_about_wherever_it_was_asked_for(ledger: RunningService, auditor: Caller) -> None:
    told_ = told(ledger.database.app, "projections", "rebuild-status", "usage")
    answer = ledger.client.get("/projections/usage/rebuild", auth=auditor).json()
    assert told_ == answer
    assert told_["state"] == "done"
    said = "the view audit_trail was never rebuilt"
    assert refused(ledger.database.app, "projections", "rebuild-status", "audit_trail") == said


def test_usage_is_of_a_known_token(ledger: RunningService) -> None:
    assert refused(ledger.database.app, "token", "usage", str(uuid4())) == "no such token"
    table = run(
        ledger.database.app, "token", "usage", str(TOKEN_ID), "--step", "day", "--since", T0.isoformat(),
        "--until", T4.isoformat(),
    ).stdout.splitlines()  # fmt: skip
    assert [row.split() for row in table] == [
        ["at", "uses", "refusals", "sources"],
        ["2021-08-10T00:00:00.000Z", "1", "0", "1"],
    ]


def test_tokens_of_which_one_says_more_are_one_table(ledger: RunningService) -> None:
    """Only those that have an end say when."""
    header, *rows = run(ledger.database.app, "token", "list", "--status", "all").stdout.splitlines()
    assert "expires_at" in header.split()
    assert len(rows) == 3

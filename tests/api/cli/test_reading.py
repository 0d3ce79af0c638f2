"""D6: a command reads what the API reads, for values of each parameter;
and what only a command has.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import pytest

from tests.api.cli.test_commands import refused, run, told
from tests.api.cli.test_flags import arguments
from tests.api.cli.test_parity import COMMANDS, DOCUMENT, NO_FLAG, VERBS, asked, flag_of, plain
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
from tests.service import Caller, RunningService, running_service
from tests.turns import by_turns


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[RunningService]:
    """Three tokens' lives, and a view that was rebuilt."""
    with new_database(server) as database:
        record(database, created(T0), used(T0 + MINUTE), token_id=TOKEN_ID)
        record(
            database,
            created(T1, name="Entra", expires_at=T3),
            rotated(T1 + MINUTE),
            turned_away(T2),
        )
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
    "secret": ["00010203", "ffffffff"],
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


OTHERWISE: Final = {"api-token list"}
"""An operator sees every API token, oldest first; a caller those that are good for its teams."""

READS: Final = [
    Read(path, verb, name, [*samples(name, schema)])
    for path, methods in DOCUMENT["paths"].items()
    if "get" in methods and (verb := VERBS.get(methods["get"]["operationId"])) is not None
    if verb not in OTHERWISE
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


def reads_by_turns(reads: Sequence[Read]) -> Iterator[Any]:
    """An eighth of the parameters with one value each; all with all values in the long run."""
    for turn, read in enumerate(reads):
        name = f"{read.verb} {read.name}"
        values = [read.values[turn % len(read.values)]]
        marks = [] if turn % 8 == 0 else [pytest.mark.long]
        yield pytest.param(read._replace(values=values), id=name, marks=marks)
        if len(read.values) > len(values):
            yield pytest.param(read, id=f"{name}, all values", marks=pytest.mark.long)


@pytest.mark.parametrize("read", [*reads_by_turns(READS)])
def test_a_command_reads_what_the_api_reads(
    ledger: RunningService, auditor: Caller, read: Read
) -> None:
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


@pytest.mark.long
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
    assert refused(ledger.database.app, "token", "list", "--after", str(uuid4())) == "no such token"
    assert (
        refused(ledger.database.app, "token", "list", "--after", str(auditor.id)) == "no such token"
    )


@pytest.mark.long
def test_the_feed_goes_on_where_it_stopped(ledger: RunningService) -> None:
    whole = told(
        ledger.database.app, "audit", "list", "--oldest-first", "--until", "2022-01-01T00:00:00Z"
    )
    kinds = ["--kind", "scim_token.created", "--kind", "scim_token.used"]
    found: list[dict[str, Any]] = []
    after = 0
    for _ in range(len(whole)):
        page = told(
            ledger.database.app, "audit", "feed", "--after", str(after), "--limit", "1", *kinds
        )
        assert page["next"] >= after
        found, after = found + page["result"], page["next"]
    assert found == [row for row in whole if row["kind"] in kinds]
    beyond = told(
        ledger.database.app, "audit", "feed", "--after", str(after), "--kind", "api_token.revoked"
    )
    assert beyond["result"] == []
    assert beyond["next"] >= whole[-1]["position"]


def test_the_feed_is_a_table_and_the_next_place_for_people(ledger: RunningService) -> None:
    header, first, last = run(
        ledger.database.app, "audit", "feed", "--limit", "1"
    ).stdout.splitlines()
    assert header.split() == ["position", "at", "kind", "outcome", "token", "team", "by"]
    assert first.split()[:3] == ["1", "2021-08-10T10:00:00.000Z", "scim_token.created"]
    assert last == "next: 1"


@pytest.mark.long
def test_a_token_is_shown_as_it_was_also_once_it_is_revoked(ledger: RunningService) -> None:
    (token_id,) = (
        token["id"] for token in told(ledger.database.app, "token", "list", "--status", "revoked")
    )

    def at(instant: datetime) -> Any:
        return told(ledger.database.app, "token", "show", token_id, "--as-of", instant.isoformat())

    assert refused(ledger.database.app, "token", "show", token_id, "--as-of", T1.isoformat()) == (
        "no such token"
    )
    assert (at(T2)["last_used_at"], at(T2)["revoked_at"]) == (None, None)
    assert at(T3 - MILLISECOND) == at(T2)
    assert (at(T3)["last_used_at"], at(T3)["revoked_at"]) == ("2021-08-10T13:00:00.000Z", None)
    assert at(T4)["revoked_at"] == "2021-08-10T14:00:00.000Z"
    assert at(T4) == told(ledger.database.app, "token", "show", token_id)


def test_a_token_is_shown_with_all_that_a_list_tells_of_it(ledger: RunningService) -> None:
    """But for a rotation that is under way; and with a null for what was never used of it."""
    listed = told(ledger.database.app, "token", "list", "--status", "all")
    assert any("rotated_at" in token for token in listed)
    for token in listed:
        token.pop("rotation", None)
        shown = told(ledger.database.app, "token", "show", token["id"])
        assert {name: shown[name] for name in shown if shown[name] or name in token} == token


@pytest.mark.parametrize(
    ("line", "said"),
    by_turns(
        [
            ("token show {} --as-of 2999-01-01T00:00:00Z", "--as-of: is in the future"),
            (
                "token show {} --as-of 2021-08-10T10:00:00",
                "--as-of: needs a time zone, such as a Z at the end",
            ),
            ("token list --as-of 2999-01-01T00:00:00Z", "--as-of: is in the future"),
            ("token list --as-of 0001-01-01T00:00:00+14:00", "--as-of: is out of range"),
            (
                "token list --unused-since 9999-12-31T23:59:59-14:00",
                "--unused-since: is out of range",
            ),
            (
                "token list --as-of 2022-01-01T00:00:00Z --never-used",
                "--never-used: cannot go with --as-of",
            ),
            (
                "token list --as-of 2022-01-01T00:00:00Z --expires-before 2022-01-01T00:00:00Z",
                "--expires-before: cannot go with --as-of",
            ),
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
        one_of=3,
    ),
)
def test_what_cannot_be_asked_is_told(ledger: RunningService, line: str, said: str) -> None:
    words = line.format(TOKEN_ID).split()
    assert refused(ledger.database.app, *words, exit_code=2).startswith(said)


def test_a_rebuild_is_told_about_wherever_it_was_asked_for(
    ledger: RunningService, auditor: Caller
) -> None:
    told_ = told(ledger.database.app, "projections", "rebuild-status", "usage")
    answer = ledger.client.get("/projections/usage/rebuild", auth=auditor).json()
    assert told_ == answer
    assert told_["state"] == "done"
    said = "the view audit_trail was never rebuilt"
    assert refused(ledger.database.app, "projections", "rebuild-status", "audit_trail") == said


def test_usage_is_of_a_known_token(ledger: RunningService) -> None:
    assert refused(ledger.database.app, "token", "usage", str(uuid4())) == "no such token"
    table = run(
        ledger.database.app, "token", "usage", str(TOKEN_ID), "--step", "day",
        "--since", T0.isoformat(), "--until", T4.isoformat(),
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

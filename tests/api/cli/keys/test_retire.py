"""`scim-ledger keys retire`: as the owner, once nobody needs the key; then it need not be given."""

import json
import re
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from api.cli.commands import _line
from api.clock_and_ids import now
from domain.eventstore import append
from tests.api.cli.test_commands import refused, run
from tests.api.cli.test_pepper import (
    BOTH,
    CREATE,
    FIRST,
    MISSING,
    ONE,
    OTHER,
    SECOND,
    USER,
    migrated_with,
    read,
)
from tests.conftest import Database, catch_up
from tests.turns import by_turns

WITHOUT: Final = {"SCIM_LEDGER_PEPPER": f"retired,{SECOND}"}
OR_THE_WORD: Final = ", and the word retired in the place of a retired one that you no longer have"
RETIRE: Final = ("keys", "retire", "1", "--reason", "yearly")


def as_owner(database: Database) -> dict[str, str]:
    return {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}


def retired(database: Database) -> Any:
    return read(database, *RETIRE, **as_owner(database))


def said(database: Database, *arguments: str, **variables: str) -> str:
    return refused(database.app, *arguments, exit_code=1, **variables)


def finding(database: Database, **keys: str) -> Any:
    (found,) = (
        each
        for each in json.loads(run(database.app, "doctor", "--json", **keys).stdout)
        if each["what"] == "pepper generations"
    )
    return found["status"], found["found"]


@pytest.fixture
def rotated(database: Database) -> Database:
    """A ledger with two keys, and nothing under the first."""
    migrated_with(database, FIRST)
    migrated_with(database, FIRST, SECOND)
    return database


def test_it_takes_the_owner(rotated: Database) -> None:
    assert refused(rotated.app, *RETIRE, SCIM_LEDGER_OWNER_DATABASE_URL=rotated.app) == (
        "it takes the owner: set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of the role postgres"
    )
    assert [row["retired_at"] for row in read(rotated, "keys", **BOTH)] == [None, None]


def test_afterwards_everything_starts_with_and_without_the_key(rotated: Database) -> None:
    assert finding(rotated, **BOTH)[0] == "ok"
    assert finding(rotated, **WITHOUT)[0] == "fail"
    assert said(rotated, "token", "list", **WITHOUT) == MISSING.format(1)
    told = retired(rotated)
    assert told["generation"] == 1
    assert "put the word retired in the place of its key" in told["next"]
    for keys in (BOTH, WITHOUT):
        assert run(rotated.app, *CREATE, **keys).exit_code == 0
        assert run(rotated.app, "migrate", **keys).exit_code == 0
        status, found = finding(rotated, **keys)
        assert status == "ok"
        assert found.startswith("all 2 are those of the ledger, 1 of them retired; ")
        rows = read(rotated, "keys", **keys)
        assert [(row["scim_tokens"] > 0, row["retired_at"]) for row in rows] == [
            (False, told["retired_at"]),
            (True, None),
        ]
    assert retired(rotated) == told, "a second time changes nothing"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    by_turns(
        [
            (FIRST, MISSING.format(2) + OR_THE_WORD),
            (SECOND, MISSING.format(1).replace("missing;", "another;") + OR_THE_WORD),
            (f"{OTHER},{SECOND}", MISSING.format(1).replace("missing;", "another;") + OR_THE_WORD),
            (f"retired,{SECOND},{OTHER}", "the pepper has a key of generation 3"),
        ],
        one_of=4,
    ),
    ids=["too few", "not in its place", "another", "a new one"],
)
def test_with_other_keys_nothing_starts_and_the_sentence_says_what_to_give(
    rotated: Database, keys: str, sentence: str
) -> None:
    retired(rotated)
    assert refused(rotated.app, "token", "list", SCIM_LEDGER_PEPPER=keys).startswith(sentence)
    if sentence.endswith(OR_THE_WORD):
        for command in (("serve", "--port", "0"), ("migrate",)):
            assert refused(rotated.app, *command, SCIM_LEDGER_PEPPER=keys) == sentence


@pytest.mark.long
def test_the_next_rotation_goes_on_from_there(rotated: Database) -> None:
    retired(rotated)
    three = {"SCIM_LEDGER_PEPPER": f"retired,{SECOND},{OTHER}"}
    assert run(rotated.app, "migrate", **three).exit_code == 0
    assert run(rotated.app, *CREATE, **three).exit_code == 0
    assert [row["generation"] for row in read(rotated, "keys", **three)] == [1, 2, 3]


def test_a_key_that_is_needed_stays_and_its_holders_are_named(database: Database) -> None:
    migrated_with(database, FIRST)
    token = read(database, *CREATE, **ONE)["id"]
    api_token = read(database, "api-token", "create", "--user", USER, **ONE)["id"]
    migrated_with(database, FIRST, SECOND)
    assert said(database, *RETIRE, **as_owner(database)) == (
        "the key of generation 1 still has 2 digests that could be let in (api token "
        f"{api_token}, scim token {token}): use, rotate or revoke these tokens, and let their "
        "setup links end, first"
    )
    for line in (("api-token", "revoke", api_token), ("token", "revoke", token)):
        assert run(database.app, *line, **BOTH).exit_code == 0
    assert retired(database)["generation"] == 1


def test_neither_the_newest_nor_an_unknown_one_is_retired(rotated: Database) -> None:
    for generation, why in (("2", "is the newest"), ("3", "no key of generation 3")):
        line = ("keys", "retire", generation, "--reason", "yearly")
        assert why in said(rotated, *line, **as_owner(rotated))
    assert "--reason" in refused(rotated.app, "keys", "retire", "1", exit_code=2)


def test_the_trail_tells_who_when_and_why(rotated: Database) -> None:
    told = retired(rotated)
    catch_up(rotated)
    (fact,) = read(rotated, "audit", "list", "--kind", "pepper.retired", **WITHOUT)
    assert fact["at"] == told["retired_at"]
    assert (fact["reason"], fact["note"], fact["outcome"]) == ("yearly", "key 1", "success")
    assert "@" in fact["operator"]
    assert read(rotated, "verify", **WITHOUT)["damage"] is None


@pytest.mark.long
def test_a_pepper_that_is_given_up_takes_the_retirement_with_it(rotated: Database) -> None:
    retired(rotated)
    owner = as_owner(rotated)
    done = run(rotated.app, "repair", "pepper", "--confirm", "--reason", "no backup", **owner)
    assert done.exit_code == 0, done.stderr
    assert said(rotated, "migrate", **WITHOUT).startswith(
        "the pepper is not the one of this ledger: its key of generation 1 is missing; only a key"
    )
    migrated_with(rotated, OTHER)
    with psycopg.connect(rotated.app) as connection:
        rows = connection.execute(
            "SELECT generation, retired_at FROM ledger.pepper_generations"
        ).fetchall()
    assert rows == [(1, None)]
    assert run(rotated.app, *CREATE, SCIM_LEDGER_PEPPER=OTHER).exit_code == 0


@pytest.mark.parametrize(("hours", "stands"), [(-1, "behind"), (1, "ahead of")])
def test_a_clock_that_disagrees_is_told_with_the_remedy(
    rotated: Database, hours: int, stands: str
) -> None:
    with psycopg.connect(rotated.owner) as owner, pytest.raises(psycopg.Error) as refusal:
        owner.execute(append.LEDGER_TIME, [now() + timedelta(hours=hours)])
    assert re.fullmatch(
        rf"the clock of this process is [0-9.]+ s {stands} that of the database: "
        r"synchronise both clocks \(NTP\), then repeat it",
        _line(refusal.value),
    )

"""`scim-ledger token revoke`, carefully, `token revoke-many`, and why a command was given."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from domain.event import Actor
from tests.api.cli.test_commands import TEAM, USER, refused, run, told
from tests.conftest import Database, catch_up
from tests.domain.scenario import ADA, T0, T1, T2, TEAM_ID, TOKEN_ID, created, used
from tests.projections.given_events import record
from tests.turns import by_turns


def test_a_token_is_revoked_only_if_it_was_not_used_since_then(database: Database) -> None:
    token_id = str(record(database, created(T0), used(T1)))
    catch_up(database)
    line = ("token", "revoke", token_id, "--if-unused-since")
    said = refused(database.app, *line, "2021-08-10T11:00:00Z")
    assert said == (
        "the token was used since then, at 2021-08-10T11:00:00.000+00:00; it was not revoked"
    )
    said = refused(database.app, *line, "2021-08-10T11:00:00", exit_code=2)
    assert said == "--if-unused-since: needs a time zone, such as a Z at the end"
    assert told(database.app, *line, "2021-08-10T11:00:00.001Z") == {"id": token_id}


@pytest.mark.long
def test_the_trail_tells_why_each_command_was_given(database: Database) -> None:
    made = told(
        database.app,
        *("token", "create", "--team", TEAM, "--name", "Okta", "--user", USER),
        *("--reason", "new tenant"),
    )
    told(database.app, "token", "rotate", made["id"], "--reason", "yearly")
    told(database.app, "token", "revoke", made["id"], "--reason", "left")
    rows = told(database.app, "token", "history", made["id"])
    assert [row["reason"] for row in rows] == ["new tenant", "yearly", "left"]
    for verb in (
        ("create", "--team", TEAM, "--name", "n", "--user", USER),
        ("rotate", made["id"]),
        ("revoke", made["id"]),
    ):
        said = refused(database.app, "token", *verb, "--reason", "r" * 201, exit_code=2)
        assert said == "--reason: must be 1 to 200 characters"


@pytest.mark.long
def test_many_tokens_are_told_of_and_revoked_only_when_that_is_confirmed(
    database: Database,
) -> None:
    unused, in_use = (
        str(record(database, *events, token_id=uuid4()))
        for events in ((created(T0),), (created(T0, name="Entra"), used(T1)))
    )
    line = ("token", "revoke-many", "--unused-since", "2021-08-10T10:30:00Z", "--reason", "unused")
    row = {"id": unused, "team_id": str(TEAM_ID), "name": "Okta", "last_used_at": None}
    rehearsed = {"matched": 1, "revoked": 0, "result": [row], "cause": None}
    assert told(database.app, *line) == rehearsed
    assert told(database.app, *line, "--created-by", str(uuid4())) == rehearsed | {
        "matched": 0,
        "result": [],
    }
    assert told(database.app, "token", "list", "--status", "revoked") == []
    done = told(database.app, *line, "--confirm", "--created-by", str(ADA.user_id))
    assert done == rehearsed | {"revoked": 1, "cause": done["cause"]}
    (last,) = told(database.app, "audit", "list", "--kind", "scim_token.revoked")
    assert (last["token_id"], last["cause"], last["reason"]) == (unused, done["cause"], "unused")
    assert [each["id"] for each in told(database.app, "token", "list")] == [in_use]


@pytest.mark.parametrize(
    "condition",
    by_turns(
        [
            f"--created-before {T1.isoformat()}",
            f"--team {TEAM_ID}",
            f"--created-by {ADA.user_id}",
            f"--token {TOKEN_ID}",
            f"--unused-since {T2.isoformat()}",
            "--violates-policy",
        ],
        one_of=6,
    ),
)
def test_each_condition_chooses_the_tokens_that_meet_it_and_no_other(
    database: Database, condition: str
) -> None:
    record(database, created(T0), token_id=TOKEN_ID)
    event, at = created(T1, expires_at=datetime(2999, 1, 1, tzinfo=UTC))
    by = Actor(user_id=UUID(USER), api_token_id=None)
    other = msgspec.structs.replace(event, team_id=UUID(TEAM), created_by=by)
    record(database, (other, at), used(T2), token_id=uuid4())
    told(database.app, "policy", "set", "--expiry-required")
    for confirmed in ([], ["--confirm"]):
        found = told(database.app, "token", "revoke-many", *condition.split(), *confirmed)
        assert [each["id"] for each in found["result"]] == [str(TOKEN_ID)]
        assert (found["matched"], found["revoked"]) == (1, len(confirmed))


def test_for_people_a_table_of_tokens_comes_before_how_many_they_are(database: Database) -> None:
    token_id = record(database, created(T0))
    shown = run(database.app, "token", "revoke-many", "--token", str(token_id)).stdout.splitlines()
    assert shown[0].split() == ["id", "team_id", "name", "last_used_at"]
    assert UUID(shown[1].split()[0]) == token_id
    assert shown[2:] == ["matched: 1", "revoked: 0", "cause: -"]


def test_without_a_condition_nothing_is_looked_for(database: Database) -> None:
    said = refused(database.app, "token", "revoke-many", "--confirm", exit_code=2)
    assert said == "--team: is needed, or another condition"


def test_what_the_policy_forbids_is_listed_and_revoked(database: Database) -> None:
    endless, ending = (
        str(record(database, created(T0, expires_at=end), token_id=uuid4()))
        for end in (None, datetime(2999, 1, 1, tzinfo=UTC))
    )
    catch_up(database)
    line = ("token", "list", "--violates", "policy")
    assert told(database.app, *line) == []
    told(database.app, "policy", "set", "--expiry-required")
    assert [token["id"] for token in told(database.app, *line)] == [endless]
    told(database.app, "policy", "set", "--team", str(TEAM_ID), "--max-lifetime-days", "365")
    assert {token["id"] for token in told(database.app, *line)} == {endless, ending}
    told(database.app, "policy", "lift", "--team", str(TEAM_ID))
    many = ("token", "revoke-many", "--violates-policy")
    assert [each["id"] for each in told(database.app, *many)["result"]] == [endless]
    assert told(database.app, *many, "--confirm")["revoked"] == 1
    assert [token["id"] for token in told(database.app, "token", "list")] == [ending]
    said = refused(database.app, "token", "list", "--violates", "law", exit_code=2)
    assert said == "--violates: must be policy"

"""`scim-ledger token revoke`, carefully, and why a command was given."""

from tests.api.cli.test_commands import TEAM, USER, refused, told
from tests.conftest import Database, catch_up
from tests.domain.scenario import T0, T1, created, used
from tests.projections.given_events import record


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

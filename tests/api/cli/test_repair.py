"""`scim-ledger repair …`: it tells first, does it on demand, and needs the owner."""

import asyncio
import json
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from projections.rebuild import run as rebuild
from projections.registry import PROJECTIONS
from tests.api.cli.test_commands import run as cli
from tests.conftest import Database, catch_up
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.test_repair import events, jumped
from tests.domain.scim_token.rotations.test_many_rotations import rotate_often
from tests.projections.archive.archiving import HOUR, facts
from tests.projections.history import given

pytestmark = pytest.mark.long
NOTHING: Final = "nothing was changed; repeat it with --confirm"


def test_the_command_tells_first_and_does_it_when_it_is_confirmed(database: Database) -> None:
    """And the views are made anew; the app role alone is refused in one sentence."""
    asyncio.run(jumped(database))
    catch_up(database)
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    was = events(database)
    refused = cli(database.app, "repair", "ledger-time", "--confirm")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "scim-ledger: it takes the owner: "
        "set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of the role postgres\n"
    )
    told = json.loads(cli(database.app, "repair", "ledger-time", "--json", **owner).stdout)
    assert (told["is_done"], told["streams"], events(database) == was) == (False, 4, True)
    assert told["next"] == NOTHING
    why = ("--reason", "the clock of replica 2")
    done = json.loads(
        cli(database.app, "repair", "ledger-time", "--confirm", "--json", *why, **owner).stdout
    )
    assert done["is_done"]
    assert done["next"] != NOTHING
    assert cli(database.app, "verify").exit_code == 0
    with psycopg.connect(database.app, autocommit=True) as connection:
        for projection in PROJECTIONS:
            rebuild.take_up(connection, projection)
            assert rebuild.check_view(connection, projection) is None
        ((kind, by, reason),) = connection.execute(
            "SELECT kind, by, reason FROM ledger.repairs"
        ).fetchall()
    assert (kind, reason) == ("ledger-time", "the clock of replica 2")
    assert by.endswith(" as postgres")
    again = json.loads(
        cli(database.app, "repair", "ledger-time", "--confirm", "--json", **owner).stdout
    )
    assert again["found"] == "ledger time is not ahead of the database's clock"


DAMAGES: Final[dict[str, LiteralString]] = {
    "a state is another": "UPDATE ledger.aggregates a SET state = convert_to(replace("
    "convert_from(state, 'UTF8'), '\"name\":\"Okta\"', '\"name\":\"x\"'), 'UTF8')",
    "a state is missing": "DELETE FROM ledger.aggregates",
    "a head is another": "UPDATE ledger.stream_heads SET uses = uses + 1",
    "a head is missing": "DELETE FROM ledger.stream_heads",
    "a secret ends at another instant": "UPDATE ledger.secrets SET good_until = now()",
    "a secret is missing": "DELETE FROM ledger.secrets",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_stored_beside_the_events_is_derived_anew(
    database: Database, damage: str
) -> None:
    """Also of secrets that their token has let go; no event changes."""
    asyncio.run(rotate_often(database))
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    was = events(database)
    with psycopg.connect(database.owner) as connection:
        connection.execute(DAMAGES[damage])
    assert cli(database.app, "verify").exit_code == 1
    told = json.loads(cli(database.app, "repair", "states", "--json", **owner).stdout)
    assert (told["streams"], told["is_done"], told["next"]) == (1, False, NOTHING)
    assert cli(database.app, "verify").exit_code == 1
    done = json.loads(cli(database.app, "repair", "states", "--confirm", "--json", **owner).stdout)
    assert done["is_done"]
    assert done["next"] != NOTHING
    assert cli(database.app, "verify").exit_code == 0
    assert_consistent(database)
    assert events(database) == was
    with psycopg.connect(database.app) as connection:
        assert connection.execute("SELECT kind FROM ledger.repairs").fetchall() == [("states",)]


@pytest.mark.parametrize("owner", ["", "app"])
def test_a_backup_by_another_role_names_the_one_that_it_takes(
    database: Database, tmp_path: Path, owner: str
) -> None:
    asyncio.run(jumped(database))
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute("CREATE ROLE scim_ledger_other LOGIN")
    try:
        other = make_conninfo(database.app, user="scim_ledger_other")
        given = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.app if owner else other}
        done = cli(database.app, "backup", str(tmp_path / "dump"), **given)
    finally:
        with psycopg.connect(database.owner, autocommit=True) as connection:
            connection.execute("DROP ROLE scim_ledger_other")
    assert done.exit_code == 1
    assert done.stderr.endswith(
        "; it takes the owner: set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of the role postgres\n"
    )


@pytest.mark.parametrize("repair", ["ledger-time", "states", "pepper"])
@pytest.mark.parametrize("reason", ["x" * 201, "of scim_live_" + "aB3" * 15, "two\nlines"])
def test_a_reason_that_cannot_be_kept_is_refused_and_not_cut(
    database: Database, repair: str, reason: str
) -> None:
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    refused = cli(database.app, "repair", repair, "--confirm", "--reason", reason, **owner)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "reason" in refused.stderr
    assert reason not in refused.stderr


FORGET: Final = ("repair", "forget", "--json")
ADDRESS: Final = ("--source", "192.0.2.1")


def test_nothing_is_forgotten_but_by_the_owner_and_where_something_tells_of_it(
    database: Database,
) -> None:
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * 3))
    was = events(database)
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    refused = cli(database.app, *FORGET, *ADDRESS, "--confirm")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("scim-ledger: it takes the owner: ")
    for more, count in (((), 3), (("--source", "198.51.100.0/24", "--confirm"), 0)):
        told = json.loads(cli(database.app, *FORGET, *(more or ADDRESS), **owner).stdout)
        assert (told["events"], told["addresses"], told["is_done"]) == (count, count // 3, False)
    assert events(database) == was
    with psycopg.connect(database.app) as app:
        assert app.execute("SELECT kind FROM ledger.repairs").fetchall() == []
    done = json.loads(cli(database.app, *FORGET, *ADDRESS, "--confirm", **owner).stdout)
    assert done["is_done"]
    assert done["next"].endswith("have it still")
    assert all(b"192.0.2.1" not in state for _, _, state in events(database).values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--source: must be given, or --user-agent"),
        (("--source", "192.0.2.7/24"), "--source: must be an address or a network"),
        (("--source", "everybody"), "--source: must be an address or a network"),
        (("--source", ""), "--source: must be an address or a network"),
        ((*ADDRESS, "--user-agent", ""), "--user-agent: must be as the trail tells it"),
        ((*ADDRESS, "--user-agent", "x" * 201), "--user-agent: must be as the trail tells it"),
        ((*ADDRESS, "--user-agent", "a\nb"), "--user-agent: must be as the trail tells it"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    database: Database, words: tuple[str, ...], said: str
) -> None:
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)]))
    was = events(database)
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    done = cli(database.app, *FORGET, *words, "--confirm", **owner)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"scim-ledger: {said}")
    assert events(database) == was

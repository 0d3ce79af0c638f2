"""B6 at the command line and over HTTP:
with another pepper nothing starts, and nobody is told 401 for it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from tests.api.cli.test_commands import refused, run, told
from tests.conftest import Database, roomy_directory

FIRST, SECOND, OTHER = (letter * 40 for letter in "abc")
TEAM, USER = str(UUID(int=1)), str(UUID(int=2))
ANOTHER: Final = (
    "the pepper is not the one of this ledger: its key of generation {} is another; "
    "give every key that the ledger knows, in order, the oldest first"
)
MISSING: Final = ANOTHER.replace("another;", "missing;")
CREATE: Final = ("token", "create", "--team", TEAM, "--user", USER, "--name", "Okta")


def migrated_with(database: Database, *keys: str) -> None:
    assert run(database.app, "migrate", SCIM_LEDGER_PEPPER=",".join(keys)).exit_code == 0


COMMANDS: Final[list[tuple[str, ...]]] = [
    ("serve", "--port", "0"),
    ("migrate",),
    CREATE,
    ("token", "list"),
    ("api-token", "list"),
    ("verify",),
    ("projections", "list"),
]
KEYS: Final = {
    "another": ([OTHER, SECOND], ANOTHER.format(1)),
    "in another order": ([SECOND, FIRST], ANOTHER.format(1)),
    "one is left out": ([FIRST], MISSING.format(2)),
    "a new one in its place": ([FIRST, OTHER], ANOTHER.format(2)),
}


def by_turns() -> Iterator[Any]:
    """Each command with one of the mistakes, in turn; with all of them in the long run."""
    for turn, command in enumerate(COMMANDS):
        for place, (name, (keys, said)) in enumerate(KEYS.items()):
            marks = [] if (place - turn) % len(KEYS) == 0 else [pytest.mark.long]
            yield pytest.param(command, keys, said, marks=marks, id=f"{name}-{' '.join(command)}")


@pytest.mark.parametrize(("command", "keys", "said"), [*by_turns()])
def test_no_command_opens_a_ledger_with_another_pepper(
    database: Database, command: tuple[str, ...], keys: list[str], said: str
) -> None:
    migrated_with(database, FIRST, SECOND)
    assert refused(database.app, *command, SCIM_LEDGER_PEPPER=",".join(keys)) == said


def test_a_new_key_is_taken_by_a_start_and_by_no_command_before(database: Database) -> None:
    """A secret under a key that no running service knows would be unknown to all of them."""
    migrated_with(database, FIRST)
    both = f"{FIRST},{SECOND}"
    assert refused(database.app, *CREATE, SCIM_LEDGER_PEPPER=both) == (
        "the pepper has a key of generation 2, which this ledger does not know yet: "
        "start the service with it first"
    )
    migrated_with(database, FIRST, SECOND)
    assert run(database.app, *CREATE, SCIM_LEDGER_PEPPER=both).exit_code == 0


def test_the_first_command_on_a_new_ledger_writes_its_keys_down(database: Database) -> None:
    assert run(database.app, *CREATE, SCIM_LEDGER_PEPPER=FIRST).exit_code == 0
    assert refused(database.app, "token", "list", SCIM_LEDGER_PEPPER=OTHER) == ANOTHER.format(1)


def test_a_pepper_that_is_lost_for_good_is_given_up_by_the_owner(database: Database) -> None:
    migrated_with(database, FIRST, SECOND)
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    rehearsed = run(database.app, "repair", "pepper", "--reason", "no backup", **owner)
    assert "next: nothing was changed; repeat it with --confirm" in rehearsed.stdout.splitlines()
    assert run(database.app, "token", "list", SCIM_LEDGER_PEPPER=f"{FIRST},{SECOND}").exit_code == 0
    done = run(database.app, "repair", "pepper", "--confirm", "--reason", "no backup", **owner)
    assert done.exit_code == 0, done.stderr
    migrated_with(database, OTHER)
    assert refused(database.app, "token", "list", SCIM_LEDGER_PEPPER=FIRST) == ANOTHER.format(1)
    with psycopg.connect(database.app) as connection:
        ((kind, reason),) = connection.execute("SELECT kind, reason FROM ledger.repairs").fetchall()
    assert (kind, reason) == ("pepper", "no backup")


def repair_refused(database: Database, keys: str, *confirm: str) -> str:
    return refused(
        database.app, "repair", "pepper", *confirm,
        SCIM_LEDGER_PEPPER=keys, SCIM_LEDGER_OWNER_DATABASE_URL=database.owner,
    )  # fmt: skip


@pytest.mark.parametrize("confirm", [(), ("--confirm", "--reason", "I wondered")])
@pytest.mark.parametrize("keys", [f"{FIRST},{SECOND}", f"{FIRST},{SECOND},{OTHER}"])
def test_a_pepper_that_is_there_is_not_given_up(
    database: Database, keys: str, confirm: tuple[str, ...]
) -> None:
    """Whoever repeats the how-to where nothing is lost, or on another host than they think."""
    migrated_with(database, FIRST, SECOND)
    assert repair_refused(database, keys, *confirm).startswith(
        "the pepper that is set is the one of this ledger, so it is not lost"
    )
    assert refused(database.app, "token", "list", SCIM_LEDGER_PEPPER=OTHER) == ANOTHER.format(1)


def test_a_pepper_is_not_given_up_beside_a_service(database: Database) -> None:
    """It would go on under its keys, and those that start would let nobody in: 401 by turns."""
    migrated_with(database, FIRST)
    with psycopg.connect(database.app, application_name="scim-ledger"):
        assert repair_refused(database, OTHER, "--confirm", "--reason", "lost") == (
            "a service is connected to this ledger: stop every one, then repeat"
        )
    assert refused(database.app, "token", "list", SCIM_LEDGER_PEPPER=OTHER) == ANOTHER.format(1)


ONE: Final = {"SCIM_LEDGER_PEPPER": FIRST}
BOTH: Final = {"SCIM_LEDGER_PEPPER": f"{FIRST},{SECOND}"}


def read(database: Database, *arguments: str, **keys: str) -> Any:
    done = run(database.app, *arguments, "--json", **keys)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def counts(database: Database) -> list[tuple[int, int, int]]:
    rows = read(database, "keys", **BOTH)
    assert all(row["added_at"].endswith("Z") for row in rows)
    return [(row["generation"], row["scim_tokens"], row["api_tokens"]) for row in rows]


@pytest.mark.long
def test_each_key_is_told_with_what_it_still_has(database: Database) -> None:
    migrated_with(database, FIRST)
    revoked, rotated, suspended = (read(database, *CREATE, **ONE)["id"] for _ in range(3))
    api_token = read(database, "api-token", "create", "--user", USER, **ONE)["id"]
    migrated_with(database, FIRST, SECOND)
    assert counts(database) == [(1, 3, 1), (2, 0, 0)]

    for command in (
        ("token", "revoke", revoked),
        ("token", "rotate", rotated, "--overlap-seconds", "3600"),
        ("token", "suspend", suspended),
        ("api-token", "rotate", api_token),
    ):
        assert run(database.app, *command, **BOTH).exit_code == 0, command
    found = counts(database)
    assert [row[:2] for row in found] == [(1, 2), (2, 1)], "an overlap and a suspension count"
    assert found[1][2] == 1


def test_what_is_over_needs_no_key(database: Database) -> None:
    migrated_with(database, FIRST)
    assert run(database.app, *CREATE, **ONE).exit_code == 0
    with psycopg.connect(database.owner) as owner:
        owner.execute(
            "UPDATE ledger.aggregates SET state = convert_to(jsonb_set(convert_from(state, 'UTF8')"
            "::jsonb, '{expires_at}', '\"2021-08-10T10:00:00Z\"')::text, 'UTF8')"
        )
    rows = read(database, "keys", **ONE)
    assert [(row["scim_tokens"], row["api_tokens"]) for row in rows] == [(0, 0)]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_ledger_without_any_secret_has_its_keys(
    database: Database, flags: tuple[str, ...]
) -> None:
    migrated_with(database, FIRST, SECOND)
    done = run(database.app, "keys", *flags, **BOTH)
    assert done.exit_code == 0
    assert "2" in done.stdout


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of an embedded server: not below pytest's own, which another account cannot enter."""
    made = Path(tempfile.mkdtemp(prefix="scim-ledger-pepper-", dir=roomy_directory()))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.mark.long
def test_a_lost_pepper_of_the_embedded_ledger_is_not_made_anew_in_silence(directory: Path) -> None:
    place = ("--data-dir", str(directory / "ledger"))
    assert run(None, "migrate", *place).exit_code == 0
    pepper = directory / "ledger" / "pepper"
    kept = pepper.read_bytes()
    assert run(None, *CREATE, *place).exit_code == 0
    pepper.unlink()
    for command in (("token", "list"), ("migrate",), CREATE):
        assert refused(None, *command, *place) == (
            f"the key of this ledger's secrets is lost, {pepper}: restore the file from a backup; "
            "without it every token is void (docs/how-to/rotate-the-pepper.md)"
        )
        assert not pepper.exists()
    pepper.write_bytes(kept)
    assert told(None, "verify", *place)["events"] == 1
    pepper.unlink()
    assert run(None, "repair", "pepper", "--confirm", *place).exit_code == 0
    assert run(None, *CREATE, *place).exit_code == 0
    assert pepper.read_bytes() != kept
    assert told(None, "verify", *place)["events"] == 2

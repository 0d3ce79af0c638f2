"""A command that appends moves the head file of its host, beside a running service or without."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from api.cli.console import NOT_KEPT
from domain.eventstore.known_head import keeper
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.keeper import HeadKeeper
from tests.api.cli.test_commands import run
from tests.api.cli.test_pepper import BOTH, FIRST, SECOND, migrated_with
from tests.conftest import Database
from tests.domain.eventstore.known_head.restored import append, copied, newest

SETTING: Final = "SCIM_LEDGER_HEAD_FILE"
CREATE: Final = (
    *("token", "create", "--team", str(uuid4()), "--user", str(uuid4()), "--name", "Okta"),
)


def good(database: Database, path: Path, *arguments: str, **variables: str) -> str:
    """What a command that went well prints; it says nothing else, but of a file that it made."""
    done = run(database.app, *arguments, **{SETTING: str(path)}, **variables)
    assert done.exit_code == 0, done.stderr
    if path.exists():
        assert all("head_file.made" in line for line in done.stderr.splitlines()), done.stderr
    return done.stdout


def position(path: Path) -> int:
    known = HeadFile(path).read()
    return 0 if known is None else known.position


def made(database: Database, path: Path) -> str:
    """The id of a token that a command has made."""
    lines = good(database, path, *CREATE).splitlines()
    (id_,) = (line.removeprefix("id: ") for line in lines if line.startswith("id: "))
    return id_


def test_a_loss_of_just_what_a_command_has_revoked_is_noticed(
    server: str, database: Database, tmp_path: Path
) -> None:
    """No service has run; before, the restored ledger would have let the revoked in."""
    path = tmp_path / "head.json"
    token = made(database, path)
    assert position(path) == newest(database) == 1
    with copied(server, database) as older:
        good(database, path, "token", "revoke", token)
        assert position(path) == newest(database) == 2
        done = run(older.app, *CREATE, **{SETTING: str(path)})
        assert (done.exit_code, done.stdout) == (1, "")
        said = done.stderr.splitlines()[-1]
        assert said.startswith("scim-ledger: the ledger ends with event 1 of ")
        assert "this host has known event 2" in said
        assert position(path) == 2, "and what is refused moves nothing"


def test_every_group_of_commands_moves_it(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    token = made(database, path)
    for arguments in (
        ("api-token", "create", "--user", str(uuid4())),
        ("policy", "set", "--max-lifetime-days", "365"),
        ("token", "rotate", token),
        ("token", "suspend", token),
        ("token", "revoke-many", "--token", token, "--confirm"),
    ):
        before = position(path)
        good(database, path, *arguments)
        assert before < position(path) == newest(database), arguments


def test_the_end_of_a_key_moves_it_as_the_owner(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    migrated_with(database, FIRST)
    migrated_with(database, FIRST, SECOND)
    owner = {"SCIM_LEDGER_OWNER_DATABASE_URL": database.owner}
    good(database, path, "keys", "retire", "1", "--reason", "yearly", **BOTH, **owner)
    assert position(path) == newest(database) == 1


def test_what_appends_nothing_makes_no_file(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    append(database)
    good(database, path, "token", "list")
    good(database, path, "api-token", "list")
    assert not path.exists()


def test_a_file_that_cannot_be_written_undoes_no_command(
    database: Database, tmp_path: Path
) -> None:
    """A new secret is shown once: it must be shown."""
    path = tmp_path / "absent" / "head.json"
    done = run(database.app, *CREATE, **{SETTING: str(path)})
    assert done.exit_code == 0
    assert "scim_live_" in done.stdout
    assert done.stderr == f"scim-ledger: {NOT_KEPT}: {path}: No such file or directory\n"
    assert newest(database) == 1


def test_commands_and_a_service_write_one_file_and_it_never_goes_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many processes at once as there are commands, beside the thread that a service has."""
    path = tmp_path / "head.json"
    monkeypatch.setattr(keeper, "EVERY_S", 0.01)
    seen: list[int] = []
    with HeadKeeper(database.app, path), ThreadPoolExecutor(4) as commands:
        running = [commands.submit(good, database, path, *CREATE) for _ in range(8)]
        while not all(each.done() for each in running):
            seen.append(position(path))
        for each in running:
            each.result()
        seen.append(position(path))
        assert seen[-1] == newest(database) == 8, "the last command has not left it to the service"
    assert seen == sorted(seen)
    assert [each.name for each in tmp_path.iterdir()] == ["head.json"]

"""docs/how-to/back-up-and-restore.md, word by word, with the two roles that it prescribes."""

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/back-up-and-restore.md"
TEAM, USER = str(uuid4()), str(uuid4())


@pytest.fixture(scope="module")
def lost() -> Iterator[Prescribed]:
    """A machine whose service has run: the views' tables belong to the app role."""
    with prescribed.prescribed() as machine:
        migrated(machine)
        with machine.serving():
            pass
        yield machine


@pytest.fixture(scope="module")
def fresh() -> Iterator[Prescribed]:
    """Another one, its two roles and its empty database made."""
    with prescribed.prescribed() as machine:
        yield machine


def command(machine: Prescribed, words: str) -> Any:
    return json.loads(machine.good(f"scim-ledger {words} --json"))


def create(machine: Prescribed, name: str) -> Any:
    return command(machine, f"token create --team {TEAM} --user {USER} --name {name}")


def status(machine: Prescribed, secret: str) -> int:
    """How a door answers."""
    with machine.serving() as url:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.get(f"{url}/gateway/forward", headers=headers, trust_env=False).status_code


def test_a_backup_is_a_whole_ledger_and_lacks_what_came_after(
    lost: Prescribed, fresh: Prescribed
) -> None:
    """C9."""
    revoked, good = create(lost, "a"), create(lost, "b")
    command(lost, f"token revoke {revoked['id']}")
    assert status(lost, good["token"]) == 200
    (backup,) = blocks("backup", document=DOCUMENT)
    assert "events: 5" in lost.good(backup)
    dump = lost.directory / "ledger.dump"
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    later = create(lost, "c")

    for name in ("ledger.dump", "pepper"):
        shutil.copy(lost.directory / name, fresh.directory)
    (restore,) = blocks("restore", document=DOCUMENT)
    told = fresh.good(restore)
    assert told.count("events: 5") == 2
    assert {token["id"] for token in command(fresh, "token list --status all")} == {
        revoked["id"],
        good["id"],
    }
    assert status(fresh, good["token"]) == 200, "as the document warns"
    assert status(fresh, revoked["token"]) == 401
    assert status(fresh, later["token"]) == 401
    assert command(fresh, "verify --expect-events")["damage"] is None
    assert all(view["is_good"] for view in command(fresh, "projections verify"))

    again = fresh.run("scim-ledger restore ledger.dump")
    assert (again.returncode, again.stdout) == (1, "")
    assert (
        again.stderr == "scim-ledger: the database has a ledger already: restore to an empty one\n"
    )


@pytest.fixture
def other() -> Iterator[Prescribed]:
    """Migrated, and without an event."""
    with prescribed.prescribed() as machine:
        yield machine


def test_no_step_is_green_on_nothing(other: Prescribed) -> None:
    """C9: a dump that failed left a file of 0 bytes,
    and verify was content with an empty ledger.
    """
    (restore,) = blocks("restore", document=DOCUMENT)
    assert other.run(restore).returncode != 0, "there is no file"
    for content in (b"", b"PGDMP cut short"):
        (other.directory / "ledger.dump").write_bytes(content)
        done = other.run(restore)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
    (other.directory / "ledger.dump").unlink()

    migrated(other)
    steps = restore.splitlines()[1:]
    empty = other.run("\n".join(steps))
    assert empty.returncode == 3
    assert "scim-ledger: this is an empty ledger: nothing was proven\n" in empty.stderr
    assert other.run("scim-ledger verify").returncode == 0
    (backup,) = blocks("backup", document=DOCUMENT)
    done = other.run(backup)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "scim-ledger: the ledger is empty: there is nothing to back up\n"

    create(other, "a")
    denied = other.run(f"unset SCIM_LEDGER_OWNER_DATABASE_URL\n{backup}")
    assert denied.returncode == 1, "the app role may not read everything"
    assert denied.stderr.endswith("it takes the owner: set SCIM_LEDGER_OWNER_DATABASE_URL\n")
    assert prescribed.PASSWORD not in denied.stderr
    assert [path.name for path in other.directory.iterdir() if "dump" in path.name] == []
    closed = other.run(backup.replace("ledger.dump", "absent/ledger.dump"))
    assert (closed.returncode, closed.stderr) == (
        *(1,),
        "scim-ledger: absent/ledger.dump cannot be written: No such file or directory\n",
    )


def test_the_embedded_ledger_goes_into_a_file_and_out_of_it(other: Prescribed) -> None:
    """C9: without a PostgreSQL of one's own, by the programs that came with it."""
    place = other.directory.parent / "ledger"

    def run(words: str, data: Path, *, is_good: bool = True) -> Any:
        done = other.run(f"scim-ledger {words} --data-dir {data} --json", exports=False)
        assert (done.returncode == 0) == is_good, done.stderr
        return json.loads(done.stdout) if is_good else done.stderr

    run("migrate", place)
    made = run(f"token create --team {TEAM} --user {USER} --name a", place)
    assert run("backup ledger.dump", place)["events"] == 1
    second = place.with_name("second")
    assert "pepper" in run("restore ledger.dump", second, is_good=False)
    assert not second.exists()
    second.mkdir(mode=0o711)
    shutil.copy(place / "pepper", second)
    assert run("restore ledger.dump", second) == {"events": 1, "streams": 1, "damage": None}
    assert run("verify --expect-events", second)["events"] == 1
    assert [token["id"] for token in run("token list --status all", second)] == [made["id"]]

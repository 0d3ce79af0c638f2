"""docs/how-to/back-up-and-restore.md, word by word, with the two roles that it prescribes."""

import json
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from projections.described import rfc3339
from tests.conftest import now
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


def _events(told: str) -> set[str]:
    """How many events a command tells of."""
    return set(re.findall(r"^events: (\d+)$", told, re.MULTILINE))


def test_a_backup_is_a_whole_ledger_and_lacks_what_came_after(
    lost: Prescribed, fresh: Prescribed
) -> None:
    """C9."""
    revoked, good = create(lost, "a"), create(lost, "b")
    command(lost, f"token revoke {revoked['id']}")
    assert status(lost, good["token"]) == 200
    (backup,) = blocks("backup", document=DOCUMENT)
    # Whether the service that was used tells of the first use before it ends is left to the moment.
    saved = _events(lost.good(backup))
    assert saved in ({"5"}, {"6"})
    dump = lost.directory / "ledger.dump"
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    later = create(lost, "c")

    for name in ("ledger.dump", "pepper"):  # a fresh host, without a head file
        shutil.copy(lost.directory / name, fresh.directory)
    (restore,) = blocks("restore", document=DOCUMENT)
    told = fresh.good(restore)
    assert (told.count("events: "), _events(told)) == (2, saved)
    assert {token["id"] for token in command(fresh, "token list --status all")} == {
        revoked["id"],
        good["id"],
    }
    assert status(fresh, good["token"]) == 200, "as the document warns"
    assert status(fresh, revoked["token"]) == 401
    assert status(fresh, later["token"]) == 401
    assert command(fresh, "verify --expect-events")["damage"] is None
    assert all(view["is_good"] for view in command(fresh, "projections verify"))

    callable_by_all = """
        SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(
            coalesce(p.proacl, acldefault('f', p.proowner))) AS granted
        WHERE p.pronamespace = 'ledger'::regnamespace AND granted.grantee = 0"""
    inside = fresh.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(inside) as connection:
        assert connection.execute(callable_by_all).fetchall() == []

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
    assert denied.stderr.endswith("a URL of the role scim_ledger_owner\n")
    assert prescribed.PASSWORD not in denied.stderr
    assert [path.name for path in other.directory.iterdir() if "dump" in path.name] == []
    closed = other.run(backup.replace("ledger.dump", "absent/ledger.dump"))
    assert (closed.returncode, closed.stderr) == (
        *(1,),
        "scim-ledger: absent/ledger.dump cannot be written: No such file or directory\n",
    )


def test_what_a_restore_has_taken_away_is_declared_and_revoked_again(other: Prescribed) -> None:
    """The service's own head file notices; the commands of the page mend."""
    migrated(other)
    revoked, good = create(other, "a"), create(other, "b")
    assert status(other, good["token"]) == 200
    (backup,) = blocks("backup", document=DOCUMENT)
    other.good(backup)
    taken_at = rfc3339(now())
    command(other, f"token revoke {revoked['id']}")
    assert status(other, revoked["token"]) == 401
    later = create(other, "c")
    assert status(other, later["token"]) == 200

    (roles,) = blocks("roles", document=prescribed.DOCUMENT)
    *_, make = roles.strip().split(";\n")
    other.administer(f"DROP DATABASE scim_ledger; {make}")
    (restore,) = blocks("restore", document=DOCUMENT)
    assert "lost: events " in other.good(restore)
    doctor = other.run("scim-ledger doctor")
    assert doctor.returncode == 1
    assert "fail  head file " in doctor.stdout
    refused = other.run(f"scim-ledger token revoke {revoked['id']}")
    assert "this host has known event" in refused.stderr

    (lost,), (declare,) = blocks("lost", document=DOCUMENT), blocks("declare", document=DOCUMENT)
    assert "--declare-loss" in other.good(lost)
    other.good(declare)
    assert "nothing is lost" in other.run(lost).stderr
    (revoke,) = blocks("revoke", document=DOCUMENT)
    done = other.run(revoke, TOKEN=revoked["id"], BACKUP=taken_at)
    assert done.returncode == 0, done.stderr
    assert [status(other, each["token"]) for each in (revoked, good, later)] == [401, 401, 401]
    (fact,) = command(other, "audit list --kind ledger.loss_declared")
    assert fact["reason"] == "the disk of db1 broke; the backup is of 02:00"
    assert fact["note"].startswith("events ")


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
    refused = other.run(f"scim-ledger restore ledger.dump --data-dir {second}")
    assert (refused.returncode, "--data-dir: has no use with" in refused.stderr) == (2, True)
    restored = other.directory / "restored"
    shutil.copytree(second, restored)
    (embedded,), (restore,) = (blocks(word, document=DOCUMENT) for word in ("embedded", "restore"))
    assert "events: 1" in other.good(f"{embedded}\n{restore}")
    assert run("restore ledger.dump", second) == {"events": 1, "streams": 1, "damage": None}
    assert run("verify --expect-events", second)["events"] == 1
    assert [token["id"] for token in run("token list --status all", second)] == [made["id"]]

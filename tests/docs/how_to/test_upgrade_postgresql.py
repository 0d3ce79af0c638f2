"""docs/how-to/upgrade-postgresql.md: a ledger goes from PostgreSQL 16 to 18, both of the wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from domain.postgres.embedded import programs
from domain.postgres.embedded.account import known_user
from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import roomy_directory
from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated
from tests.service import until

pytestmark = pytest.mark.long

DOCUMENT: Final = "docs/how-to/upgrade-postgresql.md"
CREATE: Final = f"token create --team {uuid4()} --user {uuid4()} --name Okta --json"
OLD: Final = "pginstall"
"""Where the wheel has PostgreSQL 16."""
OLD_COMMAND: Final = f"""\
#!{sys.executable}
from domain.postgres.embedded import postmaster, programs
programs._INSTALLATION = "{OLD}"
del postmaster._PLAIN["sslnegotiation"]  # which its libpq does not know
from api.cli import main
main()
"""
"""The command line of a release whose embedded server is PostgreSQL 16."""


def only(word: str) -> str:
    (script,) = blocks(word, document=DOCUMENT)
    return script


@pytest.fixture
def base() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="scim-ledger-major-", dir=roomy_directory()))
    made.chmod(0o711)
    (made / "shell").mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def old(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prescribed]:
    """A server of PostgreSQL 16 as the how-to has it, with a ledger that was served."""
    settings = {"wal_level": "logical"}
    with monkeypatch.context() as patched:
        patched.setattr(programs, "_INSTALLATION", OLD)
        server = EmbeddedPostgres(base / "old", settings=settings)
        server.start()
    try:
        machine = Prescribed(server, base / "shell")
        with_roles(machine)
        (pepper,) = blocks("pepper", document=prescribed.DOCUMENT)
        machine.good(pepper, exports=False)
        migrated(machine)
        machine.good(f"scim-ledger {CREATE}")
        with machine.serving():
            pass
        assert server_version(machine) == 16
        yield machine
    finally:
        server.stop()


def with_roles(machine: Prescribed) -> None:
    rules = machine.server.base_dir / "data" / "pg_hba.conf"
    rules.write_text(prescribed.ALL_BY_PASSWORD + "local replication postgres trust\n")
    machine.administer("SELECT pg_reload_conf()")
    (roles,) = blocks("roles", document=prescribed.DOCUMENT)
    machine.administer(roles)


def programs_of_16(server: EmbeddedPostgres) -> Path:
    return server.programs().parents[1] / OLD / "bin"


def administer(machine: Prescribed, statement: str) -> list[tuple[object, ...]]:
    conninfo = machine.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(conninfo, autocommit=True) as administrator:
        cursor = administrator.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def server_version(machine: Prescribed) -> int:
    conninfo = machine.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(conninfo) as administrator:
        return administrator.info.server_version // 10_000


def newest(machine: Prescribed) -> object:
    return administer(machine, "SELECT max(notification_id) FROM ledger.events")


def assert_whole(machine: Prescribed, before: object) -> None:
    """It is the ledger of before, looked at as the page says, and takes events."""
    assert server_version(machine) == 18
    assert newest(machine) == before
    said = machine.good(only("check"))
    assert re.search(r"^ok +head file +event \d+ is the last", said, re.MULTILINE)
    assert re.search(r"^ok +positions ", said, re.MULTILINE)
    assert "damage: -" in said
    machine.good(f"scim-ledger {CREATE}")
    with machine.serving():
        listed = json.loads(machine.good("scim-ledger token list --json"))
    assert len(listed) == 2
    machine.good("scim-ledger projections verify")


@pytest.mark.parametrize("mode", ["--link", "--copy"])
def test_pg_upgrade_takes_all_along(base: Path, old: Prescribed, mode: str) -> None:
    before = newest(old)
    old.server.stop()
    new = EmbeddedPostgres(base / "new")
    with new:
        with_new = new.programs()
    with_old = programs_of_16(new)
    data = base / "new" / "data"
    new._account.run(with_new / "pg_checksums", "--disable", "-D", data)  # as those of 16 are
    room = base / "room"
    room.mkdir()
    with of_a_user_with_a_name(new, [base / "old" / "data", data, room]) as options:
        done = subprocess.run(
            [
                *(with_new / "pg_upgrade", mode, "-U", "postgres", "-b", with_old, "-B", with_new),
                *("-d", base / "old" / "data", "-D", data),
            ],
            capture_output=True, text=True, check=False, timeout=120, **{**options, "cwd": room},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copyfile(base / "old" / "data" / "pg_hba.conf", data / "pg_hba.conf")
    with new:
        assert_whole(Prescribed(new, base / "shell"), before)


def test_logical_replication_takes_rows_and_migrate_the_rest(base: Path, old: Prescribed) -> None:
    administer(old, only("publish"))
    tables = ["--schema-only", "--schema=ledger", "--dbname", conninfo_of(old)]
    dumped = subprocess.check_output([programs_of_16(old.server) / "pg_dump", *tables], text=True)
    with EmbeddedPostgres(base / "new") as server:
        new = Prescribed(server, base / "shell")
        with_roles(new)
        psql = [str(server.programs() / "psql"), "-q", "-v", "ON_ERROR_STOP=1", conninfo_of(new)]
        subprocess.run(psql, input=dumped, text=True, check=True, stdout=subprocess.DEVNULL)
        whence = f"'{conninfo_of(old)}'"
        administer(new, only("subscribe").replace("'host=old dbname=scim_ledger'", whence))
        with old.serving():
            pass
        before = newest(old)
        until(lambda: newest(new) == before, what="all events")
        administer(new, only("end"))
        old.server.stop()
        assert_whole(new, before)


@contextmanager
def of_a_user_with_a_name(
    server: EmbeddedPostgres, directories: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    """What subprocess needs to run as the directories' owner: pg_upgrade asks for their name."""
    if os.geteuid() != 0:
        yield server._account.options()
        return
    user, (own, group) = known_user(), server._account.ids()
    for directory in directories:
        subprocess.run(["chown", "-R", str(user), directory], check=True)
    yield server._account.options(user)
    for directory in directories:
        subprocess.run(["chown", "-R", f"{own}:{group}", directory], check=True)


def conninfo_of(machine: Prescribed) -> str:
    """For programs of 16, too, whose libpq does not know all that ours states."""
    return f"host={machine.server.base_dir}/data user=postgres dbname=scim_ledger"


def test_the_embedded_ledger_of_another_major_is_told_what_to_do_and_moves(base: Path) -> None:
    directory = base / "shell"
    (directory / "bin").mkdir()
    command = directory / "bin" / "scim-ledger"
    command.write_text(OLD_COMMAND)
    command.chmod(0o755)
    machine = Prescribed(EmbeddedPostgres(base / "unused"), directory)
    places = (
        f"export OLD={base}/one NEW={base}/two SCIM_LEDGER_DATA_DIR={base}/one\nmkdir -p $NEW\n"
    )
    of_before = f"export PATH={directory}/bin:$PATH\n"

    def good(script: str) -> str:
        return machine.good(places + script, exports=False)

    made = json.loads(
        good(f"{of_before}scim-ledger migrate\nscim-ledger {CREATE}").splitlines()[-1]
    )
    good(of_before + only("before"))
    refused = machine.run(places + "scim-ledger serve", exports=False)
    assert refused.returncode == 1
    assert re.search(r"belong to PostgreSQL 16, the programs are 18\.\d+: put", refused.stderr)
    assert "scim-ledger backup" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    said = good(only("after"))
    assert "lost" not in said
    assert said.count("damage: -") == 2
    new = f"export SCIM_LEDGER_DATA_DIR={base}/two\n"
    listed = json.loads(good(f"{new}scim-ledger token list --json"))
    assert [token["id"] for token in listed] == [made["id"]]

"""What PostgreSQL's own programs are told of a connection, and who else can read it."""

import os
import shutil
import stat
from base64 import b64encode
from pathlib import Path
from typing import Final

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from api.cli import backup
from api.cli.backup import BackupError, _run
from api.cli.installation.config import SECRET_PARTS
from tests import postgres_programs
from tests.conftest import Database

VALUE: Final = b64encode(b"a key that nobody may read, ever").decode()
KNOWN: Final = [option.keyword.decode() for option in Conninfo.get_defaults()]
SECRET: Final = [name for name in KNOWN if name.endswith(SECRET_PARTS)]
TELLS: Final = """#!/bin/sh
tr '\\0' '\\n' < /proc/$$/cmdline > {here}/cmdline
env > {here}/environment
[ -z "$PGSERVICEFILE" ] || cp -p "$PGSERVICEFILE" {here}/service
"""

SPEAKS: Final = """#!/bin/sh
case "${LC_ALL:-${LC_MESSAGES:-$LANG}}" in
  C) echo "pg_dump: error: the disk is full" ;;
  *) echo "pg_dump: Fehler: kein Platz" ;;
esac >&2
exit 1
"""


def test_every_secret_part_that_libpq_knows_is_known() -> None:
    hidden = {
        option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar == b"*"
    }
    assert hidden <= {*SECRET}
    assert "sslpassword" in SECRET


@pytest.mark.parametrize("names", [*([name] for name in SECRET), SECRET, []], ids="+".join)
def test_no_secret_of_a_connection_is_on_a_command_line(tmp_path: Path, names: list[str]) -> None:
    program = tmp_path / "program"
    program.write_text(TELLS.format(here=tmp_path))
    program.chmod(0o700)
    secrets = {name: f"{VALUE} {name} = 'x\\y" for name in names}
    _run(program, make_conninfo("host=db user=ada", **secrets), "--file=x", remedy="")
    cmdline = (tmp_path / "cmdline").read_text()
    assert VALUE not in cmdline
    assert "host=db" in cmdline
    assert "--file=x" in cmdline
    environment = (tmp_path / "environment").read_text().splitlines()
    told = {name: value for name, value in secrets.items() if name != "password"}
    assert (f"PGPASSWORD={secrets.get('password')}" in environment) == ("password" in names)
    assert (tmp_path / "service").exists() == bool(told)
    if told:
        head, *lines = (tmp_path / "service").read_text().splitlines()
        assert f"service={head.strip('[]')}" in cmdline
        assert dict(line.split("=", 1) for line in lines) == told
        assert stat.S_IMODE((tmp_path / "service").stat().st_mode) == 0o600
        (left,) = [line for line in environment if line.startswith("PGSERVICEFILE=")]
        assert not Path(left.partition("=")[2]).exists()


@pytest.mark.parametrize("name", [name for name in SECRET if name != "password"])
def test_what_libpq_could_not_read_is_refused_without_the_value(name: str) -> None:
    for value, more in ((f"{VALUE} ", ""), (f"{VALUE}\nhost=x", ""), (VALUE, "service=ours ")):
        with pytest.raises(BackupError, match=name) as refused:
            _run(Path("/nowhere"), make_conninfo(f"{more}host=db", **{name: value}), remedy="")
        assert VALUE not in str(refused.value)


def test_a_program_takes_what_it_is_told(database: Database, tmp_path: Path) -> None:
    """Of the server's release, so that it knows all that this libpq does, or less."""
    dump = shutil.which("pg_dump", path=os.fspath(postgres_programs.directory()))
    assert dump is not None
    conninfo = make_conninfo(database.owner, password=VALUE, sslpassword=VALUE)
    _run(Path(dump), conninfo, "--schema-only", f"--file={tmp_path / 'dump'}", remedy="")
    assert "CREATE TABLE ledger.events" in (tmp_path / "dump").read_text()


@pytest.mark.parametrize(
    ("shipped", "on_path", "taken"),
    [
        ("18.4", "18.10 (Debian 18.10-1)", "on_path"),
        ("18.10", "18.9", "shipped"),
        ("18.4", "17.9", "shipped"),
        ("17.2", "18beta1", "on_path"),
        ("18.4", "18.4", "shipped"),
        ("17.2", "19.0", None),
    ],
)
def test_the_newest_program_of_the_servers_release_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: str, on_path: str, taken: str | None
) -> None:
    """A server that was upgraded may note what an older minor release does not restore."""
    for place, version in (("shipped", shipped), ("on_path", on_path)):
        program = tmp_path / place / "pg_dump"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
        program.chmod(0o700)
    monkeypatch.setattr(backup, "installed_programs", lambda: tmp_path / "shipped")
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "on_path"), prepend=os.pathsep)
    if taken is None:
        with pytest.raises(BackupError, match="install pg_dump of PostgreSQL 18"):
            backup._program("pg_dump", 180_004)
    else:
        assert backup._program("pg_dump", 180_004) == tmp_path / taken / "pg_dump"


def test_a_backup_of_a_later_postgresql_is_told_with_the_remedy(
    database: Database, tmp_path: Path
) -> None:
    restore = shutil.which("pg_restore", path=os.fspath(postgres_programs.directory()))
    assert restore is not None
    later = tmp_path / "later.dump"
    major, minor, revision = b"\x01\x63\x00"
    later.write_bytes(b"PGDMP" + bytes([major, minor, revision]) + bytes(100))
    with pytest.raises(BackupError, match="restore it to a server of that major version"):
        _run(Path(restore), database.owner, os.fspath(later), remedy="")


def test_why_a_program_failed_is_told_whatever_the_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(SPEAKS)
    program.chmod(0o700)
    for name in ("LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.setenv(name, "de_DE.UTF-8")
    with pytest.raises(BackupError, match="disk is full"):
        _run(program, "host=db", remedy="")

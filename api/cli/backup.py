"""`scim-ledger backup` and `restore`: the ledger in one file, by PostgreSQL's own programs.

Views are left out, and how far they are: their tables belong to the app role, the owner may not
read them, and they are made anew from the events.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Final, LiteralString

import psycopg
from cyclopts import Parameter
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli.console import AsJson, DataDir, show
from api.cli.installation.config import SECRET_PARTS
from api.cli.recover import lost
from api.deployment import (
    Keys,
    Schema,
    empty_store,
    needs_pepper,
    open_store,
    owner_conninfo,
)
from api.settings import Settings, load
from domain.errors import InvalidValue, LedgerError, PepperMismatch, StoreUnavailable
from domain.files.whole_file import NotAFile, require_file, whole_file
from domain.losses.declared import Loss, in_words
from domain.postgres.connection import is_true, open_connection
from domain.postgres.embedded.programs import installed_programs
from domain.postgres.hosts import hosts_in_turn
from domain.postgres.migrate import takes_owner
from domain.postgres.session import HAS_PROGRAM, WAITS_FOR_STANDBY, stated_for_program
from domain.postgres.trouble.beside_wait import Looker
from domain.postgres.trouble.late_commit import LateCommit
from domain.postgres.trouble.lost_session import LostSession, of_program
from domain.postgres.trouble.unusable_reasons import is_lost, loss_in, reason
from projections.ledger_check import Checked, check_ledger

WHAT: Final = (
    "--schema=ledger",
    "--exclude-table-data=ledger.projection_positions",
    "--exclude-table-data=ledger.projection_rebuilds",
)
_EVENTS: Final[LiteralString] = "SELECT count(*) FROM ledger.events"
_MAGIC: Final = b"PGDMP"
"""What a file of pg_dump's custom format begins with."""
_SERVICE: Final = "scim-ledger"
_LOOKED_EVERY_S: Final = 0.5
_REFUSED_BY_POOLER: Final = "unsupported startup parameter"
_HAS: Final[LiteralString] = (
    "SELECT to_regnamespace('ledger') IS NOT NULL, to_regnamespace('views') IS NOT NULL"
)

File = Annotated[Path, Parameter(help="The file of the backup.")]


class BackupError(LedgerError):
    """The backup was not made, or not restored; the text says why."""


def backup(file: File, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Write the whole ledger to a file, while the service runs.

    The pepper is not in it: keep that elsewhere. A ledger of an earlier release is not migrated: a
    backup is made before that.

    The file has its name once it is whole; it is for its owner alone. Nothing but a backup of
    before, or an empty file, is replaced.
    """
    try:
        require_file(file)
    except NotAFile as error:
        raise InvalidValue("FILE", error.strerror) from error
    _require_backup(file)
    settings = load(data_dir=data_dir)
    with open_store(settings, keys=Keys.IGNORED, schema=Schema.KEPT):
        owner = owner_conninfo(settings)
        with open_connection(owner) as connection:
            program = _program("pg_dump", connection.info.server_version)
            remedy = takes_owner(connection)
            try:
                row = connection.execute(_EVENTS).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                raise BackupError(f"this role may not read the ledger; {remedy}") from None
        assert row is not None
        if row[0] == 0:
            raise BackupError("the ledger is empty: there is nothing to back up")
        try:
            with whole_file(file) as unfinished:
                arguments = ("--format=custom", f"--file={unfinished.name}", *WHAT)
                _run(program, owner, *arguments, remedy=remedy)
        except OSError as error:
            raise BackupError(f"{file} cannot be written: {error.strerror}") from error
    show({"file": str(file), "events": row[0], "bytes": file.stat().st_size}, as_json=as_json)


def _require_backup(file: Path) -> None:
    """Raise InvalidValue where the name is another file's: it could be the pepper's."""
    try:
        with file.open("rb") as there:
            begins = there.read(len(_MAGIC))
    except OSError:  # told when it is written
        return
    if begins not in {b"", _MAGIC}:
        raise InvalidValue(
            "FILE", "there is a file that is no backup, and no other is replaced: name another"
        )


def restore(file: File, *, data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Make a ledger of a backup, in an empty database or a new data directory, and verify it.

    The pepper is put in its place first. Views are made anew: by the next serve, or by projections
    rebuild.
    """
    settings = load(data_dir=data_dir)
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    needs_pepper(settings)
    with empty_store(settings):
        owner = owner_conninfo(settings)
        with open_connection(owner) as connection:
            program, remedy = (
                _program("pg_restore", connection.info.server_version),
                takes_owner(connection),
            )
            _require_empty(connection)
        arguments = ("--single-transaction", "--exit-on-error", str(file))
        _run(program, owner, *arguments, remedy=remedy)
    found, loss = _checked(settings)
    damage = None if found.damage is None else str(found.damage)
    told = {"events": found.events, "streams": found.streams, "damage": damage}
    if found.archived:
        told["archived"] = found.archived
    if loss is not None:
        told["lost"] = f"{in_words(loss)}: scim-ledger recover"
    show(told, as_json=as_json)
    if found.events == 0:
        raise BackupError("the backup holds no event")
    return 0 if damage is None else 1


def _checked(settings: Settings) -> tuple[Checked, Loss | None]:
    """What is restored, made ready for this release, and what it lacks.

    Raises BackupError where the pepper is another, or the database is lost meanwhile.
    """
    try:
        with open_store(settings, schema=Schema.MIGRATED) as ready:
            assert ready.database_url is not None
            with open_connection(ready.database_url) as connection:
                return check_ledger(connection), lost(ready)
    except PepperMismatch as error:
        raise BackupError(
            f"{error}; the backup itself is restored: then go on with scim-ledger verify"
        ) from error
    except (StoreUnavailable, psycopg.Error) as error:
        if not (isinstance(error, StoreUnavailable) or is_lost(error)):
            raise
        raise BackupError(
            f"{reason(error)}; the backup itself is restored: "
            "then go on with scim-ledger migrate, and scim-ledger verify"
        ) from error


def _require_empty(connection: psycopg.Connection) -> None:
    """Raise BackupError where there is a ledger. No backup has views: `migrate` makes them."""
    has_ledger, has_views = connection.execute(_HAS).fetchone() or (False, False)
    if has_ledger and not has_views:
        raise BackupError(
            "the database has a ledger as a restore leaves it that was interrupted: scim-ledger "
            "migrate finishes it, and scim-ledger verify checks it"
        )
    if has_ledger:
        raise BackupError("the database has a ledger already: restore to an empty one")


def _program(name: str, server_version: int) -> Path:
    """The newest one of the server's own release: another one refuses it, or writes what it does
    not know.
    """
    wanted = server_version // 10_000
    on_path = shutil.which(name)
    there = [installed_programs() / name, *([] if on_path is None else [Path(on_path)])]
    versions = {program: _version(program) for program in there}
    ours = [program for program in there if versions[program][0] == wanted]
    if not ours:
        raise BackupError(
            f"the server is PostgreSQL {wanted}: install {name} of PostgreSQL {wanted} and repeat"
        )
    return max(ours, key=versions.__getitem__)


def _version(program: Path) -> tuple[int, int]:
    """The major and the minor release of a program of PostgreSQL's; zeros where it says none."""
    asked: list[str | Path] = [program, "--version"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", said)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _run(program: Path, conninfo: str, *arguments: str, remedy: str) -> None:
    """remedy: of a right that is lacking. What the program says is read in English."""
    said, code = _said(program, conninfo, *arguments, is_told_to_server=True)
    if code != 0 and _REFUSED_BY_POOLER in said:
        said, code = _said(program, conninfo, *arguments, is_told_to_server=False)
    if code != 0:
        reasons = [line for line in said.splitlines() if "error" in line] or ["it gave no reason"]
        is_denied = "privilege" in reasons[0] or "permission denied" in reasons[0]
        mend = f"; {remedy}" if is_denied else ""
        if (lost := loss_in(said)) is not None:
            mend = f"; {lost}; then repeat it"
        if "unsupported version" in reasons[0]:
            mend = (
                "; the backup is of a later PostgreSQL: restore it to a server of that major "
                "version, or of a later one"
            )
        raise BackupError(f"{reasons[0].strip()}{mend}")


def _said(
    program: Path, conninfo: str, *arguments: str, is_told_to_server: bool
) -> tuple[str, int]:
    """As `_ended`, on the host that this process works with.

    is_told_to_server: as of `stated_for_program`.
    """
    host, *_ = hosts_in_turn(conninfo)
    stated = stated_for_program(host, program.name, is_told_to_server=is_told_to_server)
    with _told(stated) as (dbname, environment):
        return _ended(
            [program, "--no-password", f"--dbname={dbname}", *arguments],
            {**os.environ, **environment, "LC_ALL": "C"},
            LateCommit(partial(is_true, conninfo, WAITS_FOR_STANDBY)),
            LostSession(of_program(partial(is_true, conninfo, HAS_PROGRAM, (program.name,)))),
        )


def _ended(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    *lookers: Looker,
) -> tuple[str, int]:
    """What a program says that is to end by itself, and its exit code. Raises AnswerLost."""
    with subprocess.Popen(  # noqa: S603 - PostgreSQL's own program, our own arguments
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            while True:
                for looker in lookers:
                    looker.look()
                with suppress(subprocess.TimeoutExpired):
                    _, said = process.communicate(timeout=_LOOKED_EVERY_S)
                    return said, process.returncode
        except BaseException:  # told to end: nor does it go on
            process.kill()
            raise


@contextmanager
def _told(conninfo: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A connection string without its secrets, and the environment that has them.

    A command line is for everybody to read; the environment is not, nor a file for its owner alone,
    which is how libpq takes those that have no variable.
    """
    parts = {
        name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None
    }
    secret = {name: parts.pop(name) for name in [*parts] if name.endswith(SECRET_PARTS)}
    environment = {"PGPASSWORD": secret.pop("password")} if "password" in secret else {}
    if not secret:
        yield make_conninfo(**parts), environment
        return
    if "service" in parts:  # libpq takes one
        raise BackupError(
            f"{', '.join(secret)} cannot go with a service: put it into the service's own file"
        )
    lines = [f"[{_SERVICE}]", *(f"{name}={value}" for name, value in secret.items())]
    if any(line != line.rstrip() or not line.isprintable() for line in lines):
        raise BackupError(
            f"{', '.join(secret)} must be printable, without a blank at its end: PostgreSQL's "
            "programs are given it in a file, line by line"
        )
    with NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("\n".join([*lines, ""]))
        file.flush()
        yield make_conninfo(**parts, service=_SERVICE), {**environment, "PGSERVICEFILE": file.name}

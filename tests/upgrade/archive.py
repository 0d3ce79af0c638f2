"""A stopped data directory in one small file, and out of it."""

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests import postgres_programs

ACCOUNT: Final = 60706
"""The owner of what root unpacks: a user that no file names, as the server has one then."""
_LEFT_OUT: Final = frozenset({"postmaster.opts"})
"""It names where the directory lay; a start writes it anew."""


def pack(data_dir: Path, file: Path) -> None:
    """Pack the cluster alone, with the one segment of its log that a start reads; no key."""
    needed = _last_segment(data_dir / "data")

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(member.name)
        is_old_segment = name.parent.name == "pg_wal" and member.isfile() and name.name != needed
        if name.name in _LEFT_OUT or is_old_segment:
            return None
        member.uid = member.gid = ACCOUNT
        member.uname = member.gname = ""
        member.mtime = 0
        return member

    with tarfile.open(file, "w:xz", preset=9) as packed:
        packed.add(data_dir / "data", "data", filter=plain)


def unpack(file: Path, data_dir: Path) -> None:
    """Unpack it into a directory. As root it is the account's, else one's own."""
    with tarfile.open(file) as packed:
        packed.extractall(data_dir, filter="fully_trusted", numeric_owner=os.geteuid() == 0)


def _last_segment(cluster: Path) -> str:
    control = subprocess.run(
        [postgres_programs.directory() / "pg_controldata", cluster],
        env={"LC_ALL": "C"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    told = {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in control.splitlines())
    }
    assert told["Database cluster state"] == "shut down", told
    return told["Latest checkpoint's REDO WAL file"]

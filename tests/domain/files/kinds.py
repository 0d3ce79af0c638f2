"""What can have the name that a file is to get."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def _link(target: Callable[[Path], object]) -> Callable[[Path], None]:
    """A symbolic link to something of that kind."""

    def make(path: Path) -> None:
        other = path.with_name("other")
        target(other)
        path.symlink_to(other)

    return make


_PLAIN: Final[dict[str, Callable[[Path], object]]] = {
    "directory": Path.mkdir,
    "named pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
    "device": _device,
}
NO_FILES: Final[dict[str, Callable[[Path], object]]] = {
    **_PLAIN,
    **{f"symbolic link, {name}": _link(make) for name, make in _PLAIN.items()},
    "symbolic link, file": _link(Path.touch),
    "symbolic link, nothing": _link(lambda _: None),
    "symbolic link, itself": lambda path: path.symlink_to(path),
}
"""By what it is in words, how to make one at a path."""


def named(kind: str) -> str:
    """What is told of one."""
    return f"there is a {kind.partition(',')[0]}, and nothing but a regular file is replaced"


def seen(directory: Path) -> list[tuple[str, int, int, int]]:
    """All of a directory: names, kinds and rights, which they are, and their length."""
    found = [(each.name, each.lstat()) for each in directory.iterdir()]
    return sorted((name, at.st_mode, at.st_ino, at.st_size) for name, at in found)

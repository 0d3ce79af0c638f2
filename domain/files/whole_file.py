"""Write a file as a whole: it has its name once it is complete, and is for its owner alone.

What a rename puts at a name is gone: as root, that could be a device of the whole machine. So the
name is free or that of a regular file, for every file that is written so.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """Something other than a regular file has the name. strerror: what, and the remedy."""

    strerror: str


def require_file(path: Path) -> None:
    """Raise NotAFile unless the name is free or that of a regular file; OSError.

    A symbolic link is not followed either: whoever may make one in the directory would choose which
    file of ours is replaced.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if kind != stat.S_IFREG:
        raise NotAFile(
            errno.EEXIST,
            f"there is {_KINDS.get(kind, 'something else')}, and nothing but a regular file is "
            "replaced: name another place",
            str(path),
        )


def is_place(directory: Path) -> bool:
    """Whether a file can be made there, as far as rights and a disk that takes writes tell."""
    return os.access(directory, os.W_OK | os.X_OK)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, at `path` and on disk once the block has ended; gone where the block raises.

    Its `name` is that of the unfinished file. Raises NotAFile, OSError.
    """
    require_file(path)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    with open(unfinished, "xb", opener=_for_its_owner) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            require_file(path)  # the block may have taken an hour
            unfinished.rename(path)
            _keep_names(path.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _keep_names(directory: Path) -> None:
    """Until a directory is on disk, a loss of power takes the names that are new in it.

    As PostgreSQL does, one that may not be read, or lies where directories are not synchronised
    (FUSE, SMB), is left alone. Raises OSError.
    """
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF}:
            raise
    finally:
        os.close(opened)


def _for_its_owner(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)

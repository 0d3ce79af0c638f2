"""Read a file that a setting names."""

import stat
from pathlib import Path

from api.settings.errors import UnusableFile


def text_of(name: str, path: Path, *, remedy: str) -> str:
    """The text of a regular file, in ASCII and not blank. Raises UnusableFile.

    Each process reads it: a pipe is empty for the second one, and may keep the first waiting.

    name: of the setting. remedy: what to do about a file that is not as it must be.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(f"{name}: {shown(path)} cannot be read (it is no file)", remedy)
        text = path.read_text("ascii")
    except OSError as error:
        raise UnusableFile(
            f"{name}: {shown(path)} cannot be read ({error.strerror})", remedy
        ) from None
    except UnicodeDecodeError:
        raise UnusableFile(
            f"{name}: {shown(path)} cannot be read (it is no ASCII text)", remedy
        ) from None
    if not text.strip():
        raise UnusableFile(f"{name}: the file {shown(path)} is empty", remedy)
    return text


def shown(path: Path) -> str:
    """For a message. What is no absolute path is not told: it may be what the file was to hold."""
    return str(path) if path.is_absolute() else f"a relative path, looked for in {Path.cwd()},"

"""Days ago: what the parts of a release are told in the place of the time that it is."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

HOW: Final = {"faketime": "apt-get install faketime"}
"""The program whose library tells it, to the database server, too: both compare their clocks."""


def told(ago: timedelta) -> Mapping[str, str]:
    """The variables for a process, so that to it and to all below it is that long ago.

    How long something takes stays as it is, and so do the times of files.
    """
    if not ago:
        return {}
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME": f"-{int(ago.total_seconds())}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@contextmanager
def cleared() -> Iterator[None]:
    """Take away what the library leaves of each process that runs in the block."""
    before = _left()
    yield
    for file in _left() - before:
        file.unlink()


def _left() -> set[Path]:
    return set(Path("/dev/shm").glob("*faketime_*"))


@cache
def _library() -> str:
    """What the program itself has its commands loaded with."""
    named = subprocess.run(
        ["faketime", "-m", "-f", "-1", "env"], capture_output=True, text=True, check=True
    ).stdout
    (library,) = (line for line in named.splitlines() if line.startswith("LD_PRELOAD="))
    return library.partition("=")[2]

"""Secrets that can be derived again: the hook under which the kept ledger was made.

Python imports this module at its start where its folder is on the path. With GOLDEN_STREAM set,
each draw of 32 random bytes is the next one of that stream, and the host is called `db1`. Where the
process was told of another time (FAKETIME), the database server that it starts in an environment of
its own is told, too. Nothing else changes: ids, for one, are drawn in other sizes. It imports
nothing of ours, for it runs under every release.
"""

import hashlib
import itertools
import os
import select
import socket
import subprocess
import time
from typing import Any, Final

SEED: Final = "the golden ledger of scim-ledger"
ENTROPY_BYTES: Final = 32
_CLOCK: Final = ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT")


def entropy(stream: str, number: int) -> bytes:
    """The 32 bytes of one draw. number: from 0, within the stream."""
    return hashlib.sha256(f"{SEED}/{stream}/{number}".encode()).digest()


def _draw_from(stream: str) -> None:
    numbers, random = itertools.count(), os.urandom
    os.urandom = lambda size, /: (
        entropy(stream, next(numbers)) if size == ENTROPY_BYTES else random(size)
    )
    socket.gethostname = lambda: "db1"


def _sleep(seconds: float, /) -> None:
    """By the clock that stays as it is; of its instants, the library makes some that are none."""
    select.select([], [], [], seconds)


def _hand_on(clock: dict[str, str]) -> None:
    start = subprocess.Popen.__init__

    def init(self: "subprocess.Popen[bytes]", *args: Any, **options: Any) -> None:
        if options.get("env") is not None:
            options["env"] = {**options["env"], **clock}
        start(self, *args, **options)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign, assignment]
    time.sleep = _sleep  # type: ignore[assignment]


if "GOLDEN_STREAM" in os.environ:
    _draw_from(os.environ["GOLDEN_STREAM"])
if "FAKETIME" in os.environ:
    _hand_on({name: os.environ[name] for name in _CLOCK})

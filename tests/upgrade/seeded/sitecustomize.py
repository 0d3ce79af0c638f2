"""Secrets that can be derived again: the hook under which the kept ledger was made.

Python imports this module at its start where its folder is on the path. With GOLDEN_STREAM set,
each draw of 32 random bytes is the next one of that stream, and the host is called `db1`. Nothing
else of the process changes: ids, for one, are drawn in other sizes. It imports nothing of ours, for
it runs under every release.
"""

import hashlib
import itertools
import os
import socket
from typing import Final

SEED: Final = "the golden ledger of scim-ledger"
ENTROPY_BYTES: Final = 32


def entropy(stream: str, number: int) -> bytes:
    """The 32 bytes of one draw. number: from 0, within the stream."""
    return hashlib.sha256(f"{SEED}/{stream}/{number}".encode()).digest()


def _draw_from(stream: str) -> None:
    numbers, random = itertools.count(), os.urandom
    os.urandom = lambda size, /: (
        entropy(stream, next(numbers)) if size == ENTROPY_BYTES else random(size)
    )
    socket.gethostname = lambda: "db1"


if "GOLDEN_STREAM" in os.environ:
    _draw_from(os.environ["GOLDEN_STREAM"])

"""Read the clock, ids, randomness and the operator's name; the domain takes them as arguments."""

import os
import pwd
import socket
from datetime import UTC, datetime
from time import time_ns
from typing import Final

from api.random_ids import RandomIds
from domain.commands import ClockAndIds
from domain.kept_text import kept
from domain.secret import ENTROPY_BYTES


def now() -> datetime:
    """The clock of the edge: aware UTC, whole milliseconds."""
    return datetime.fromtimestamp(time_ns() // 1_000_000 / 1000, UTC)


def operator_name() -> str:
    """Who gives a command of the command line, as the operating system knows them: "root@db1".

    Not from the environment: USER and LOGNAME say what whoever set them likes.
    """
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a uid without an entry
        user = f"uid {uid}"
    return kept(f"{user}@{socket.gethostname()}", max_length=OPERATOR_MAX_LENGTH) or f"uid {uid}"


OPERATOR_MAX_LENGTH: Final = 200
CLOCK_AND_IDS: Final = ClockAndIds(
    clock=now, new_id=RandomIds(), entropy=lambda: os.urandom(ENTROPY_BYTES)
)

"""Where the edge gets time, ids and randomness; the domain takes them as arguments."""

import os
from datetime import UTC, datetime
from time import time_ns
from typing import Final

from api.identifiers import RandomIds
from domain.ledger import Sources
from domain.secret import ENTROPY_BYTES


def now() -> datetime:
    """The clock of the edge: aware UTC, whole milliseconds."""
    return datetime.fromtimestamp(time_ns() // 1_000_000 / 1000, UTC)


SOURCES: Final = Sources(clock=now, new_id=RandomIds(), entropy=lambda: os.urandom(ENTROPY_BYTES))

"""What a process of the service settles with its system and its interpreter before it works.

How many files it may open bounds the connections that a worker serves.
"""

import gc
import resource
from typing import Final

OTHER_DESCRIPTORS: Final = 256
"""Of one worker: to the database and the upstream, listeners, logs,
and peers that are being turned away.
"""
FEWEST: Final = 64
"""Connections below which a worker is not worth starting."""

YOUNG_OBJECTS: Final = 10_000
"""What the collector lets come together before it looks for cycles:
its 700 are less than is under way.
"""


class TooFewDescriptors(Exception):
    """This process may not open enough files; the text says so, for an operator."""


def raise_descriptor_limit() -> None:
    """Take all the descriptors that the system lets this process have;
    by default it hands out a part.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_descriptor_limit() -> None:
    """Raise TooFewDescriptors where no worker could serve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OTHER_DESCRIPTORS + FEWEST
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TooFewDescriptors(
            f"a process may open {hard} files here, and a worker needs {needed}: "
            "raise the limit (ulimit -n, LimitNOFILE= of systemd, or the ulimits of the container)"
        )


def connections_allowed() -> int:
    """Connections of clients that this process may have, as its limit stands now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 31) if soft == resource.RLIM_INFINITY else max(FEWEST, soft - OTHER_DESCRIPTORS)


def spare_the_collector() -> None:
    """Keep the garbage collector away from what is loaded, which stays.

    A full collection of a worker's 60,000 objects held every request up for 40 to 60 ms; of what
    the projection process spent on a use, the collector took a tenth.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)

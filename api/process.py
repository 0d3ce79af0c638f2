"""What a process of the service settles with its system and its interpreter before it works.

How many files it may open bounds the connections that a worker serves. Whoever reads what it says
may leave, and it goes on.
"""

import gc
import io
import os
import resource
import sys
from contextlib import suppress
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

_HOW: Final = ("encoding", "errors", "line_buffering", "write_through")
"""What a text stream is made with, besides what it writes to."""


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


class _MayBeLeft(io.TextIOWrapper):
    """A stream whose reader may leave, as `head` does: what it is given then goes nowhere.

    No mistake, and no end: a command's exit code says what it has found, whoever reads the rest.
    """

    def write(self, text: str, /) -> int:
        """As of any stream."""
        try:
            return super().write(text)
        except BrokenPipeError:
            to_nobody(self.fileno())
            return len(text)

    def flush(self) -> None:
        """As of any stream."""
        try:
            super().flush()
        except BrokenPipeError:
            to_nobody(self.fileno())


class _MayFail(_MayBeLeft):
    """Standard error: what cannot be written, as on a full disk, is left out.

    It says what happens, and is no part of it: neither a service nor a command ends for its sake.
    """

    def write(self, text: str, /) -> int:
        """As of any stream."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with suppress(OSError):
            super().flush()


def let_readers_leave() -> None:
    """From now on, of standard output and standard error."""
    for name, kind in (("stdout", _MayBeLeft), ("stderr", _MayFail)):
        stream = getattr(sys, name)
        if stream is not None:
            how = {each: getattr(stream, each) for each in _HOW}
            setattr(sys, name, kind(stream.buffer, **how))


def to_nobody(descriptor: int) -> None:
    """What is still buffered goes nowhere; the interpreter would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)

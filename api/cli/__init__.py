"""The command `scim-ledger`: one file for each group of commands."""

import os
import signal
from typing import Final

_OF_LIBRARIES: Final = (
    *("LITESTAR_DEBUG", "LITESTAR_PDB"),  # a debugger would ask who called, and wait
    *("PSYCOPG_IMPL", "PSYCOPG_WAIT_FUNC"),  # another libpq than the one that comes with it
    "TZINFO_TOPIC",
    "WEB_CONCURRENCY",  # of many platforms; what is no number would let no worker start
)
"""Variables by which a library would be another one than we know, here and in every child."""


def main() -> None:
    """Entry point. Ctrl-C while it is loaded, a third of a second, ends it without a traceback."""
    for name in _OF_LIBRARIES:
        os.environ.pop(name, None)
    held = signal.getsignal(signal.SIGINT)
    if held is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from api.cli import commands  # noqa: PLC0415 - what takes that long

    signal.signal(signal.SIGINT, held)
    commands.main()


__all__ = ["main"]

"""The command `scim-ledger`: one file for each group of commands."""

import signal


def main() -> None:
    """Entry point. Ctrl-C while it is loaded, a third of a second, ends it without a traceback."""
    held = signal.getsignal(signal.SIGINT)
    if held is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from api.cli import commands  # noqa: PLC0415 - what takes that long

    signal.signal(signal.SIGINT, held)
    commands.main()


__all__ = ["main"]

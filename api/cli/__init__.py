"""The command `scim-ledger`: one file for each group of commands."""

from api.cli.commands import main

__all__ = ["main"]

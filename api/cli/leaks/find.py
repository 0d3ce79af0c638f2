"""`scim-ledger token find-leaked`: secrets in any text, and whose they are."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Final

from api.cli.console import AsJson, DataDir, text_of, with_ledger
from api.settings import SettingsError, load
from domain.leaks.finder import Found, find_secrets
from domain.ledger import TokenLedger

CHUNK_BYTES: Final = 1 << 16
FOUND: Final = 3
"""Exit code: something was found."""
_BATCH: Final = 200


def find_leaked(*, data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Find secrets of this service in standard input. Exit code 3 where there are some, else 0.

    By format and checksum, without a ledger; where DATABASE_URL or --data-dir names one, it tells
    whose they are and whether they are still good. No secret is printed.
    """
    found = find_secrets(standard_input())
    settings = load(data_dir=data_dir)
    if settings.database_url is None and settings.data_dir is None:
        return _tell(found, as_json=as_json)
    return with_ledger(data_dir, _telling_whose(found, as_json=as_json))


def _telling_whose(
    found: Iterator[Found], *, as_json: bool
) -> Callable[[TokenLedger], Awaitable[int]]:
    async def tell(ledger: TokenLedger) -> int:
        exit_code = 0
        while batch := list(islice(found, _BATCH)):
            exit_code = FOUND
            holders = await ledger.holders([each.secret for each in batch])
            at = await ledger.time()
            for each, holder in zip(batch, holders, strict=True):
                whose = (
                    {"state": "unknown"}
                    if holder is None
                    else {
                        "state": holder.state(at=at),
                        "secret": holder.secret_id,
                        "token_id": str(holder.token.id),
                    }
                )
                print_found(each, whose, as_json=as_json)
        return exit_code

    return tell


def _tell(found: Iterator[Found], *, as_json: bool) -> int:
    exit_code = 0
    for each in found:
        exit_code = FOUND
        print_found(each, {}, as_json=as_json)
    return exit_code


def print_found(found: Found, whose: dict[str, str], *, as_json: bool) -> None:
    """One line for each, so that a long stream is told while it is read."""
    kind = found.secret.kind.rstrip("_")
    if as_json:
        print(json.dumps({"line": found.line, "column": found.column, "kind": kind, **whose}))
    else:
        words = (f"{name}={text_of(value)}" for name, value in whose.items())
        print(f"{found.line}:{found.column}", kind, *words)


def standard_input() -> Iterator[bytes]:
    """What stands in standard input, as it comes, without NULs: UTF-16 reads as ASCII then.

    Raises SettingsError where it is closed.
    """
    if sys.stdin is None:
        raise SettingsError("standard input is closed")
    while chunk := os.read(sys.stdin.fileno(), CHUNK_BYTES):
        yield chunk.replace(b"\0", b"")

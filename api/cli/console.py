"""What all commands share: connecting to the ledger's database, and printing."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import psycopg
from cyclopts import Parameter
from psycopg import Connection
from rich.cells import cell_len

from api.cli.ending import run
from api.clock_and_ids import operator_name
from api.deployment import open_ledger, open_store
from api.http.instants import FIRST, IN_THE_FUTURE, LAST, OUT_OF_RANGE, ZONE
from api.settings import Settings, load
from domain.authority import Operator
from domain.errors import InvalidValue, LedgerError
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.keeper import keep
from domain.kept_text import without_secrets
from domain.ledger import TokenLedger
from domain.postgres.connection import open_connection
from domain.postgres.trouble.unusable_reasons import reason
from projections.follow.positions import ensure_live
from projections.registry import PROJECTIONS
from projections.runner import Runner

T = TypeVar("T")

DataDir = Annotated[Path | None, Parameter(help="Directory of the embedded server.")]
AsJson = Annotated[bool, Parameter(name="--json", help="Print JSON.")]
LIST_MAX: Final = 1000
LINE_EVERY_S: Final = 1.0
"""Of progress, where it is told in lines."""
NOT_KEPT: Final = "this is done, but the head file does not name it"
OnBehalf = Annotated[UUID | None, Parameter(help="The user on whose behalf; the trail names them.")]
Reason = Annotated[str | None, Parameter(help="Why, for the trail.")]
TokenId = Annotated[UUID, Parameter(help="Its id; no command asks for a secret.")]


@contextmanager
def connection(data_dir: Path | None) -> Iterator[Connection]:
    """The app role's, in autocommit mode, beside a running service or on a
    server started for it.
    """
    with open_store(load(data_dir=data_dir)) as settings:
        assert settings.database_url is not None
        with open_connection(settings.database_url) as opened:
            yield opened


@contextmanager
def caught_up(data_dir: Path | None) -> Iterator[Settings]:
    """Settings of a ledger whose views know all that is recorded by now,
    also where no service runs.
    """
    with open_store(load(data_dir=data_dir)) as settings:
        assert settings.database_url is not None
        catch_up(settings.database_url)
        yield settings


def catch_up(conninfo: str) -> None:
    """Let the views know all that is recorded by now, also where no service does."""
    with open_connection(conninfo) as opened:
        for projection in PROJECTIONS:
            ensure_live(opened, projection)
        Runner(conninfo, PROJECTIONS).catch_up(opened)


def ask_ledger(settings: Settings, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
    """Run one command on the ledger; the head file names what it has appended."""
    appended = Event()

    async def ask_and_close() -> T:
        async with open_ledger(settings, on_append=appended.set) as ledger:
            return await ask(ledger)

    try:
        return run(ask_and_close())
    finally:  # also of one that was cut short between two appends
        if appended.is_set():
            assert settings.database_url is not None
            keep_head_file(settings.database_url, settings.head_file)


def keep_head_file(conninfo: str, path: Path | None) -> None:
    """Write the newest event into the head file, as a service does, which may run beside.

    What hinders that is one line on standard error: what the command was to do is done.
    """
    if path is None:
        return
    try:
        with open_connection(conninfo) as connection:
            keep(connection, HeadFile(path))
    except (LedgerError, psycopg.Error) as error:
        complain(f"{NOT_KEPT}: {reason(error)}")
    except OSError as error:
        complain(f"{NOT_KEPT}: {path}: {error.strerror}")


def with_ledger(data_dir: Path | None, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
    """Run one command on the ledger, beside a running service or on a server started for it."""
    with open_store(load(data_dir=data_dir)) as settings:
        return ask_ledger(settings, ask)


def operator(user_id: UUID | None = None) -> Operator:
    """Whoever gives the command, on behalf of a user if one is named."""
    return Operator(user_id, operator_name())


def aware(name: str, at: datetime | None) -> datetime | None:
    """An instant that was given. Raises InvalidValue where it lacks a time zone."""
    if at is not None and at.tzinfo is None:
        raise InvalidValue(name, ZONE)
    return at


def asked_at(name: str, at: datetime | None, *, latest: datetime | None = None) -> datetime | None:
    """An instant that is asked about, in UTC.

    latest: the last one that makes sense. Raises InvalidValue.
    """
    at = aware(name, at)
    if at is None:
        return None
    if not FIRST <= at < LAST:
        raise InvalidValue(name, OUT_OF_RANGE)
    if latest is not None and at > latest:
        raise InvalidValue(name, IN_THE_FUTURE)
    return at.astimezone(UTC)


def show(found: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """One object as lines, several as a table; or JSON, for scripts.

    A cell is never broken in two.
    """
    if as_json:
        print(printable_json(json.dumps(found, ensure_ascii=False)))
    elif isinstance(found, Mapping):
        for name, value in found.items():
            print(f"{name}: {text_of(value)}")
    elif found:
        # some rows say more than others
        names = list(dict.fromkeys(name for row in found for name in row))
        rows = [names, *([text_of(row.get(name)) for name in names] for row in found)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell + " " * (width - cell_len(cell))
                for cell, width in zip(row, widths, strict=True)
            )
            print("  ".join(cells).rstrip())


def text_of(value: object) -> str:
    """A value for a person's eyes."""
    if value is None:
        return "-"
    return printable(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def printable(text: str) -> str:
    """What a terminal shows as it is.

    Everything else could move the cursor, turn the line around or hide.
    """
    if text.isprintable() and _can_be_shown(text):
        return text
    return "".join(
        each if each.isprintable() and _can_be_shown(each) else _escape(each) for each in text
    )


def printable_json(text: str) -> str:
    """The same JSON: what is not printable can only stand within a string."""
    return "".join(
        each
        if each == "\n" or (each.isprintable() and _can_be_shown(each))
        else json.dumps(each)[1:-1]
        for each in text
    )


def complain(sentence: str) -> None:
    """One line on standard error, without a secret, whoever gave it to us,
    and printable to its end.
    """
    print(f"scim-ledger: {printable(without_secrets(sentence))}", file=sys.stderr, flush=True)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _can_be_shown(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True

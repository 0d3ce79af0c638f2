"""`scim-ledger audit …`: search, follow and export the audit trail, for the operator."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from api.cli.console import (
    LIST_MAX,
    AsJson,
    DataDir,
    catch_up,
    printable,
    printable_json,
    show,
    text_of,
)
from api.cli.trail import ALL, Filters, Kinds, Trail, ask_trail, brief, kinds_of, show_events
from api.process import to_nobody
from api.resources.audit.text import csv_header, csv_rows, ndjson_rows
from domain.errors import InvalidValue, ProjectionBehind
from projections.audit_trail.queries import AuditPage
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent

_FOLLOW_S: Final = 30.0

app = App(name="audit", help="The audit trail: every fact of the ledger.")


class ExportFormat(StrEnum):
    """What a file is written as."""

    NDJSON = "ndjson"
    CSV = "csv"


@app.command(name="list")
def list_(
    filters: Filters = ALL,
    *,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 50,
    oldest_first: Annotated[bool, Parameter(help="Begin with the oldest.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest facts, or the oldest."""
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}; export has no limit")
    narrow = filters.narrow()

    async def ask(trail: Trail) -> Sequence[AuditEvent]:
        span = Span(is_newest_first=not oldest_first)
        return (
            await trail.audit.page(narrow, span, limit=limit, ledger_head=trail.ledger_head)
        ).events

    show_events(ask_trail(data_dir, ask), as_json=as_json)


@app.command(name="export")
def export(
    filters: Filters = ALL,
    *,
    as_: Annotated[
        ExportFormat, Parameter(name="--format", help="What to write.")
    ] = ExportFormat.NDJSON,
    data_dir: DataDir = None,
) -> None:
    """Every fact, oldest first, to standard output:
    NDJSON, or CSV that a spreadsheet can be trusted with.
    """
    narrow = filters.narrow()

    async def ask(trail: Trail) -> None:
        if as_ is ExportFormat.CSV:
            _write(csv_header())
        pages = trail.audit.stream(
            narrow, Span(is_newest_first=False), limit=None, ledger_head=trail.ledger_head
        )
        async for page in pages:
            if as_ is ExportFormat.CSV:  # a file's bytes are the trail's; a terminal is not a file
                _write(_for_eyes(csv_rows(page)) if sys.stdout.isatty() else csv_rows(page))
            else:
                _write(printable_json(ndjson_rows(page).decode()).encode())

    with _reader_may_leave():
        ask_trail(data_dir, ask)


@app.command(name="tail")
def tail(
    filters: Filters = ALL,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on for ever.")] = False,
    lines: Annotated[
        int, Parameter(name=["--lines", "-n"], help=f"How many to begin with, 0 to {LIST_MAX}.")
    ] = 10,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The last facts, a line each, and with --follow every further one as it is recorded."""
    if not 0 <= lines <= LIST_MAX:
        raise InvalidValue("--lines", f"must be 0 to {LIST_MAX}")
    narrow = filters.narrow()

    async def ask(trail: Trail) -> None:
        last = await trail.audit.page(
            narrow,
            Span(until=trail.ledger_head),
            limit=max(lines, 1),
            ledger_head=trail.ledger_head,
        )
        _print_lines(last.events[lines - 1 :: -1] if lines else (), as_json=as_json)
        if follow:
            async for events in _news(trail, narrow):
                _print_lines(events, as_json=as_json)

    with _reader_may_leave(), suppress(KeyboardInterrupt):
        ask_trail(data_dir, ask)


@app.command(name="feed")
def feed(
    *,
    after: Annotated[int, Parameter(help="The last position that was seen; 0 for the start.")] = 0,
    kind: Kinds = None,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """One page of the feed of events, in the order of the ledger, and where to go on:
    the next --after.

    What is at or before that position is not told again, and nothing after it was left out.
    """
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}")
    narrow = AuditFilter(kinds=kinds_of(kind))

    async def ask(trail: Trail) -> tuple[AuditPage, int]:
        if not 0 <= after <= trail.ledger_head:
            raise InvalidValue(
                "--after", f"must be 0 to {trail.ledger_head}, the ledger's last position"
            )
        span = Span(is_newest_first=False, after=after)
        return await trail.audit.page(
            narrow, span, limit=limit, ledger_head=trail.ledger_head
        ), trail.ledger_head

    page, ledger_head = ask_trail(data_dir, ask)
    next_ = page.seen_to(after, ledger_head=ledger_head)
    if as_json:
        show(
            {"next": next_, "result": [msgspec.to_builtins(event) for event in page.events]},
            as_json=True,
        )
        return
    show([{"position": event.position, **brief(event)} for event in page.events], as_json=False)
    show({"next": next_}, as_json=False)


async def _news(trail: Trail, narrow: AuditFilter) -> AsyncIterator[Sequence[AuditEvent]]:
    after = trail.ledger_head
    while True:
        if not await trail.heads.beyond(after, timeout_s=_FOLLOW_S):
            continue
        ledger_head = await trail.heads.now()
        span = Span(is_newest_first=False, after=after)
        pages = trail.audit.stream(narrow, span, limit=None, ledger_head=ledger_head)
        try:
            async for events in pages:
                yield events
        except ProjectionBehind:  # no service runs, or none that fills the views for now
            await asyncio.to_thread(catch_up, trail.conninfo)
        else:
            after = ledger_head


def _print_lines(events: Sequence[AuditEvent], *, as_json: bool) -> None:
    if as_json:
        _write(printable_json(ndjson_rows(events).decode()).encode())
        return
    for event in events:
        _write((" ".join(text_of(value) for value in brief(event).values()) + "\n").encode())


def _for_eyes(data: bytes) -> bytes:
    return "".join(f"{printable(line)}\n" for line in data.decode().split("\n")[:-1]).encode()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Whoever reads our output may stop, as `ledger_head` does: that is the end, and no mistake."""
    try:
        yield
    except BrokenPipeError:
        to_nobody(sys.stdout.fileno())

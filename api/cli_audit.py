"""`scim-ledger audit …` and `scim-ledger token history`: the trail for whoever runs the service."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from api.audit_text import csv_header, csv_rows, ndjson_rows
from api.console import (
    LIST_MAX,
    AsJson,
    DataDir,
    TokenId,
    aware,
    caught_up,
    printable,
    printable_json,
    show,
    text_of,
)
from api.source import plain_network
from domain.errors import InvalidValue, NotFound
from domain.eventstore.connection import ReadPool
from projections.audit_queries import AuditFilter, AuditQueries, Network, Span
from projections.audit_trail import KINDS, AuditEvent, outcome_of
from projections.head import HeadWatch

T = TypeVar("T")
_FOLLOW_S: Final = 30.0

app = App(name="audit", help="The audit trail: every fact of the ledger.")


class ExportFormat(StrEnum):
    """What a file is written as."""

    NDJSON = "ndjson"
    CSV = "csv"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the trail is narrowed to."""

    team: Annotated[UUID | None, Parameter(help="Only of this team.")] = None
    token: Annotated[UUID | None, Parameter(help="Only of this SCIM token, by its id.")] = None
    user: Annotated[UUID | None, Parameter(help="Only what this user did.")] = None
    api_token: Annotated[
        UUID | None, Parameter(help="Only what was done with this API token, by its id.")
    ] = None
    kind: Annotated[
        tuple[str, ...] | None,
        Parameter(negative="", help="Only this kind, such as scim_token.used; repeat it for several."),
    ] = None
    outcome: Annotated[str | None, Parameter(help="success or refused.")] = None
    source: Annotated[
        str | None, Parameter(help="Only from this address or network, such as 192.0.2.0/24.")
    ] = None
    since: Annotated[datetime | None, Parameter(help="From this instant on, with a time zone.")] = None
    until: Annotated[datetime | None, Parameter(help="Until before this instant, with a time zone.")] = None

    def narrow(self) -> AuditFilter:
        """The same for a query. Raises InvalidValue."""
        return AuditFilter(
            teams=None if self.team is None else (self.team,),
            token_id=self.token,
            user_id=self.user,
            api_token_id=self.api_token,
            kinds=self._kinds(),
            source=_network(self.source),
            from_at=aware("--since", self.since),
            to_at=aware("--until", self.until),
        )

    def _kinds(self) -> frozenset[str] | None:
        if self.kind is not None and not KINDS.issuperset(self.kind):
            raise InvalidValue("--kind", f"must be one of {', '.join(sorted(KINDS))}")
        if self.outcome not in {None, "success", "refused"}:
            raise InvalidValue("--outcome", "must be success or refused")
        if self.kind is None and self.outcome is None:
            return None
        return frozenset(kind for kind in self.kind or KINDS if self.outcome in {None, outcome_of(kind)})


ALL: Final = Filters()


class Trail(NamedTuple):
    """What a command asks. head: the ledger's when it started; the views have reached it."""

    audit: AuditQueries
    heads: HeadWatch
    head: int


@app.command(name="list")
def list_(
    filters: Filters = ALL,
    *,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 50,
    oldest_first: Annotated[bool, Parameter(negative="", help="Begin with the oldest.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest facts, or the oldest."""
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}; export has no limit")
    narrow = filters.narrow()

    async def ask(trail: Trail) -> Sequence[AuditEvent]:
        span = Span(is_newest_first=not oldest_first)
        return (await trail.audit.page(narrow, span, limit=limit, head=trail.head)).events

    _show(_ask(data_dir, ask), as_json=as_json)


@app.command(name="export")
def export(
    filters: Filters = ALL,
    *,
    as_: Annotated[ExportFormat, Parameter(name="--format", help="What to write.")] = ExportFormat.NDJSON,
    data_dir: DataDir = None,
) -> None:
    """Every fact, oldest first, to standard output: NDJSON, or CSV that a spreadsheet can be trusted with."""
    narrow = filters.narrow()

    async def ask(trail: Trail) -> None:
        if as_ is ExportFormat.CSV:
            _write(csv_header())
        pages = trail.audit.stream(narrow, Span(is_newest_first=False), limit=None, head=trail.head)
        async for page in pages:
            if as_ is ExportFormat.CSV:  # a file's bytes are the trail's; a terminal is not a file
                _write(_for_eyes(csv_rows(page)) if sys.stdout.isatty() else csv_rows(page))
            else:
                _write(printable_json(ndjson_rows(page).decode()).encode())

    with _reader_may_leave():
        _ask(data_dir, ask)


@app.command(name="tail")
def tail(
    filters: Filters = ALL,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="", help="Go on for ever.")] = False,
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
        last = await trail.audit.page(narrow, Span(until=trail.head), limit=max(lines, 1), head=trail.head)
        _print_lines(last.events[lines - 1 :: -1] if lines else (), as_json=as_json)
        if follow:
            async for events in _news(trail, narrow):
                _print_lines(events, as_json=as_json)

    with _reader_may_leave(), suppress(KeyboardInterrupt):
        _ask(data_dir, ask)


def history(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """All that ever happened to one token, oldest first, also when it is revoked."""

    async def ask(trail: Trail) -> Sequence[AuditEvent]:
        narrow, span = AuditFilter(token_id=token_id), Span(is_newest_first=False)
        pages = trail.audit.stream(narrow, span, limit=None, head=trail.head)
        return [event async for page in pages for event in page]

    found = _ask(data_dir, ask)
    if not found:
        raise NotFound("no such token")
    _show(found, as_json=as_json, fields=_of_one_token)


async def _news(trail: Trail, narrow: AuditFilter) -> AsyncIterator[Sequence[AuditEvent]]:
    after = trail.head
    while True:
        if not await trail.heads.beyond(after, timeout_s=_FOLLOW_S):
            continue
        head = await trail.heads.now()
        span = Span(is_newest_first=False, after=after)
        async for events in trail.audit.stream(narrow, span, limit=None, head=head):
            yield events
        after = head


def _ask(data_dir: Path | None, ask: Callable[[Trail], Awaitable[T]]) -> T:
    """Ask beside a running service, or on a server started for it: then nobody else fills the views."""

    async def run(conninfo: str) -> T:
        pool = ReadPool(conninfo)
        try:
            heads = HeadWatch(pool)
            return await ask(Trail(AuditQueries(pool), heads, await heads.now()))
        finally:
            await pool.close()

    with caught_up(data_dir) as settings:
        assert settings.database_url is not None
        return asyncio.run(run(settings.database_url))


def _show(
    events: Sequence[AuditEvent],
    *,
    as_json: bool,
    fields: Callable[[AuditEvent], Mapping[str, Any]] | None = None,
) -> None:
    fields = msgspec.to_builtins if as_json else fields or _brief
    show([fields(event) for event in events], as_json=as_json)


def _brief(event: AuditEvent) -> Mapping[str, Any]:
    """What fits a terminal's line; --json has the rest."""
    return {
        "at": event.at,
        "kind": event.kind if event.count == 1 else f"{event.kind} x{event.count}",
        "outcome": event.reason if event.outcome == "refused" else event.outcome,
        "token": event.token_id,
        "team": event.team_id,
        "by": event.operator or event.user_id or event.source,
    }


def _of_one_token(event: AuditEvent) -> Mapping[str, Any]:
    """Its team and id are known; so there is room for why and where from."""
    return {
        "at": event.at,
        "kind": event.kind if event.count == 1 else f"{event.kind} x{event.count}",
        "outcome": event.outcome,
        "reason": event.reason,
        "by": event.operator or event.user_id,
        "source": event.source,
    }


def _print_lines(events: Sequence[AuditEvent], *, as_json: bool) -> None:
    if as_json:
        _write(printable_json(ndjson_rows(events).decode()).encode())
        return
    for event in events:
        _write((" ".join(text_of(value) for value in _brief(event).values()) + "\n").encode())


def _for_eyes(data: bytes) -> bytes:
    return "".join(f"{printable(line)}\n" for line in data.decode().split("\n")[:-1]).encode()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Whoever reads our output may stop, as `head` does: that is the end, and no mistake."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush


def _network(source: str | None) -> Network | None:
    try:
        return None if source is None else plain_network(source)
    except ValueError:
        raise InvalidValue("--source", "must be an address or a network, such as 192.0.2.0/24") from None

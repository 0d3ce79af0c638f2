"""Query the view `audit_trail`: pages by filter, and the same rows as a stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from domain.postgres.read_pool import ReadPool
from projections.audit_trail import lines as audit_lines
from projections.audit_trail import view as audit_trail
from projections.audit_trail.statement import AuditFilter, Span, statement
from projections.audit_trail.view import AuditEvent, AuditRow, event_of
from projections.follow.wake_ups import NOBODY, Waker
from projections.view_reader import ViewReader

PAGE: Final = 500
"""Rows read at a time for a stream: a few milliseconds of an event loop that
others wait for too.
"""

LINES: Final = 500
"""Rows read at a time for a stream of lines; three times as many wait for one who does not read."""

STREAMED_MAX: Final = 2
"""Pages of streams that are read at a time: the others wait, and leave connections and the event
loop to whoever asks for less.
"""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """next: the position to go on after, None on the last page."""

    events: Sequence[AuditEvent]
    next: int | None

    def seen_to(self, after: int, *, ledger_head: int) -> int:
        """Up to which position an oldest-first page after `after` leaves nothing out.

        ledger_head: the view had reached it when the page was read; unless that is full, nothing is
        left before it.
        """
        if self.next is not None:
            return self.next
        return max(after, ledger_head, *(event.position for event in self.events[-1:]))


class AuditQueries:
    """Reads of the view `audit_trail`. Each names the ledger head that it must have reached."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, audit_trail.PROJECTION, waker=waker)
        self._turns = asyncio.Semaphore(STREAMED_MAX)

    async def page(
        self, narrow: AuditFilter, span: Span, *, limit: int, ledger_head: int
    ) -> AuditPage:
        """`limit` rows at most, in the order of `span`."""
        select, parameters = statement(narrow, span, limit=limit + 1)
        rows = await self._view.rows(select, parameters, ledger_head=ledger_head)
        events = [event_of(AuditRow(*row)) for row in rows[:limit]]
        return AuditPage(events, events[-1].position if len(rows) > limit else None)

    async def stream(
        self, narrow: AuditFilter, span: Span, *, limit: int | None, ledger_head: int
    ) -> AsyncIterator[Sequence[AuditEvent]]:
        """Every row up to `ledger_head`, page by page:
        constant memory, and no transaction that outlives a page.

        A row never changes and positions only grow, so pages from different snapshots, or even from
        different builds of the view, make one whole.
        """
        span, left = replace(span, until=ledger_head), limit
        while left is None or left > 0:
            count = PAGE if left is None else min(left, PAGE)
            async with self._turns:
                page = await self.page(narrow, span, limit=count, ledger_head=ledger_head)
            if page.events:
                yield page.events
            if page.next is None:
                return
            span = replace(span, after=page.next)
            left = None if left is None else left - len(page.events)

    async def lines(
        self, narrow: AuditFilter, span: Span, *, limit: int | None, ledger_head: int
    ) -> AsyncGenerator[bytes, None]:
        """What `stream` yields, as lines of JSON: many at a time, each with its newline.

        While some are on their way, the database writes the next ones: two pages in memory at most.
        """
        here, left = replace(span, until=ledger_head), limit
        ahead = self._ahead(narrow, here, left, ledger_head=ledger_head)
        try:
            while ahead is not None:
                text, count, next_ = await ahead
                left = None if left is None else left - count
                here, before = replace(here, after=next_), here
                ahead = (
                    None
                    if next_ is None
                    else self._ahead(narrow, here, left, ledger_head=ledger_head)
                )
                # lets it ask: what is yielded may be sent without a turn of the loop
                await asyncio.sleep(0)
                if audit_lines.has_odd_address(text):
                    async with self._turns:
                        page = await self.page(narrow, before, limit=count, ledger_head=ledger_head)
                    text = _encoder.encode_lines(page.events)
                if text:
                    yield text
        finally:
            if ahead is not None:  # whoever read has left
                ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
                ahead.cancel()
            del ahead  # its failure has this frame, which must not have it

    def _ahead(
        self, narrow: AuditFilter, span: Span, left: int | None, *, ledger_head: int
    ) -> "asyncio.Task[tuple[bytes, int, int | None]] | None":
        """The next lines, asked for already; None where the limit is reached."""
        limit = LINES if left is None else min(left, LINES)
        if not limit:
            return None
        return asyncio.create_task(self._lines(narrow, span, limit=limit, ledger_head=ledger_head))

    async def _lines(
        self, narrow: AuditFilter, span: Span, *, limit: int, ledger_head: int
    ) -> tuple[bytes, int, int | None]:
        """Lines, how many they are, and the position to go on after, None where nothing follows."""
        select, parameters = lines_statement(narrow, span, limit=limit)
        async with self._turns:
            ((text,),) = await self._view.rows(select, parameters, ledger_head=ledger_head)
        if not text:
            return b"", 0, None
        count = text.count(b"\n")
        return text, count, audit_lines.last_position(text) if count == limit else None


_encoder: Final = msgspec.json.Encoder()


def lines_statement(narrow: AuditFilter, span: Span, *, limit: int) -> tuple[str, list[Any]]:
    """`statement`, its rows as lines: see `audit_lines.SELECT`."""
    select, parameters = statement(narrow, span, limit=limit)
    return audit_lines.SELECT.replace("{select}", select), parameters

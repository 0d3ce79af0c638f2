"""Whatever the trail holds, and by whichever filters at once it is narrowed: pages, streams and
lines tell what a plain look at each row tells.
"""

import asyncio
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.postgres.read_pool import ReadPool
from projections.audit_trail import queries as audit_queries
from projections.audit_trail import statement as audit_statement
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent, AuditRow, event_of
from tests.conftest import Database
from tests.domain.scenario import MILLISECOND, MINUTE, T0
from tests.projections.audit_trail.any_rows import (
    HEAD,
    KINDS,
    SECRETS,
    TEAMS,
    TOKENS,
    USERS,
    put,
    some_rows,
    standing_far_beyond,
)

NETWORKS: Final = ["192.0.2.0/24", "192.0.2.255/32", "192.0.2.0/23", "2001:db8::/32", "0.0.0.0/0"]
INSTANTS: Final = st.sampled_from(
    [T0 + n * MINUTE + ms * MILLISECOND for n in range(3) for ms in (0, 1)]
)
FILTERS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "teams": st.lists(st.sampled_from(TEAMS), unique=True),
    "token_id": st.sampled_from([*TOKENS, UUID(int=99)]),
    "user_id": st.sampled_from(USERS[1:]),
    "api_token_id": st.sampled_from(USERS[1:]),
    "kinds": st.sets(st.sampled_from(KINDS)),
    "source": st.sampled_from(NETWORKS).map(ip_network),
    "from_at": INSTANTS,
    "to_at": INSTANTS,
}


class Question(msgspec.Struct, frozen=True):
    """limit: of a page. most: of a stream, None for all. ledger_head: where that ends."""

    narrow: AuditFilter
    is_newest_first: bool
    after: int | None
    limit: int
    most: int | None
    ledger_head: int


def _narrow(names: set[str], secret: int | None) -> st.SearchStrategy[AuditFilter]:
    chosen = {name: FILTERS[name] for name in sorted(names)}
    return st.builds(AuditFilter, secret=st.just(secret if "token_id" in names else None), **chosen)


QUESTIONS: Final = st.lists(
    st.builds(
        Question,
        narrow=st.tuples(
            st.sets(st.sampled_from(sorted(FILTERS)), max_size=4), st.sampled_from(SECRETS)
        ).flatmap(lambda drawn: _narrow(*drawn)),
        is_newest_first=st.booleans(),
        after=st.none() | st.integers(0, 40),
        limit=st.integers(1, 6),
        most=st.none() | st.integers(0, 6),
        ledger_head=st.just(HEAD) | st.integers(0, 40),
    ),
    min_size=5,
    max_size=10,
)


def plainly(rows: Sequence[AuditRow], asked: Question) -> list[AuditRow]:
    """What is behind the place that is asked for, in its order."""
    found = [row for row in rows if _is_asked_for(asked.narrow, row)]
    if asked.is_newest_first:
        found.reverse()
    after = asked.after
    if after is None:
        return found
    return [
        row
        for row in found
        if (row.position < after if asked.is_newest_first else row.position > after)
    ]


def _is_asked_for(narrow: AuditFilter, row: AuditRow) -> bool:
    return (
        (narrow.teams is None or row.team_id in narrow.teams)
        and narrow.token_id in {None, row.token_id}
        and narrow.user_id in {None, row.user_id}
        and narrow.api_token_id in {None, row.api_token_id}
        and narrow.secret in {None, row.secret}
        and (narrow.kinds is None or row.kind in narrow.kinds)
        and (narrow.source is None or (row.source is not None and row.source in narrow.source))
        and (narrow.from_at is None or narrow.from_at <= row.at)
        and (narrow.to_at is None or row.at < narrow.to_at)
    )


@pytest.fixture(scope="module")
def database(server: str) -> Iterator[Database]:
    with standing_far_beyond(server) as made:
        yield made


async def check(queries: AuditQueries, rows: Sequence[AuditRow], asked: Question) -> None:
    narrow, span = asked.narrow, Span(asked.is_newest_first, after=asked.after)
    expected = [event_of(row) for row in plainly(rows, asked)]
    page = await queries.page(narrow, span, limit=asked.limit, ledger_head=0)
    assert page.events == expected[: asked.limit], asked
    assert page.next == (page.events[-1].position if len(expected) > asked.limit else None), asked
    until = [event for event in expected if event.position <= asked.ledger_head][: asked.most]
    most, head = asked.most, asked.ledger_head
    streamed = list[AuditEvent]()
    async for events in queries.stream(narrow, span, limit=most, ledger_head=head):
        assert 0 < len(events) <= audit_queries.PAGE, asked
        streamed += events
    assert streamed == until, asked
    lines = [piece async for piece in queries.lines(narrow, span, limit=most, ledger_head=head)]
    assert b"".join(lines) == msgspec.json.Encoder().encode_lines(until), asked


@pytest.mark.parametrize("few", [0, 2, audit_statement.FEW])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_any(rows=some_rows([*TOKENS, None]), questions=QUESTIONS)
def test_each_answer_is_what_a_plain_look_at_each_row_tells(
    database: Database, few: int, rows: list[AuditRow], questions: list[Question]
) -> None:
    """few: rows that make a network rare."""
    put(database, rows)

    async def ask() -> None:
        pool = ReadPool(database.app, timeout_s=10)
        try:
            for asked in questions:
                await check(AuditQueries(pool), rows, asked)
        finally:
            await pool.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_statement, "FEW", few)
        patch.setattr(audit_queries, "PAGE", 3)
        patch.setattr(audit_queries, "LINES", 4)
        asyncio.run(ask())

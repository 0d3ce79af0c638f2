"""Lines that the database writes are, byte for byte, what `AuditEvent` encodes to."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.doors.decide import path_class
from api.resources.api_calls import route_class
from domain.postgres.connection import configure
from domain.postgres.read_pool import ReadPool
from domain.postgres.session import READING
from projections.audit_trail import lines as audit_lines
from projections.audit_trail.queries import LINES, AuditQueries, lines_statement
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import KINDS, PROJECTION
from tests.conftest import Database, new_database
from tests.projections.many_rows import TABLE, VERSION, generate, team
from tests.turns import by_turns

LIVE: Final = PROJECTION.table(1)
HEAD: Final = 1_000_000
ADDRESSES: Final = [
    *(None, "192.0.2.1", "2001:db8::1", "2001:db8:0:1:1:1:1:1", "::1", "::", "fe80::1:0:0:1"),
    *("::192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "1:0:0:2::"),
]
TEXTS: Final = st.none() | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
)
WORDS: Final = st.none() | st.from_regex(r"[ -!#-\[\]-~]{1,20}", fullmatch=True)
"""Doors, methods, classes of paths: made by a release,
of the letters of a token (RFC 9110) and braces.
"""
IDS: Final = st.none() | st.uuids()
INSTANTS: Final = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))
ROWS: Final = st.lists(
    st.tuples(
        *(
            INSTANTS,
            IDS,
            IDS,
            st.uuids(),
            IDS,
            IDS,
            st.integers(1, 2**31 - 1),
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.sampled_from(sorted(KINDS)),
        ),
        *(TEXTS, WORDS, st.sampled_from(ADDRESSES), TEXTS, WORDS, WORDS, TEXTS, TEXTS, IDS),
        *(TEXTS, st.just(None)),
    ),
    max_size=7,
)
NASTY: Final = '"\\/\b\f\n\r\t\x01\x1f\x7f\x80\u2028é🦊<&>'


@pytest.fixture(scope="module")
def database(server: str) -> Iterator[Database]:
    """The view stands far beyond the ledger's head: rows of it are a test's own."""
    with new_database(server) as made:
        with psycopg.connect(made.owner) as owner:
            owner.execute("UPDATE ledger.projection_positions SET position = %s", [HEAD])
        yield made


def put(database: Database, rows: list[tuple[Any, ...]]) -> None:
    with psycopg.connect(database.owner) as owner:
        owner.execute(f"TRUNCATE {LIVE}".encode())
        places = ", ".join(["%s"] * len(PROJECTION.columns))
        with owner.cursor() as cursor:
            numbered = [(position, *row) for position, row in enumerate(rows, start=1)]
            cursor.executemany(f"INSERT INTO {LIVE} VALUES ({places})".encode(), numbered)


def both(database: Database, span: Span, *, limit: int | None = None) -> tuple[bytes, bytes]:
    """The trail as the database writes it, and as Python does."""

    async def read() -> tuple[bytes, bytes]:
        pool = ReadPool(database.app)
        queries = AuditQueries(pool)
        asked = AuditFilter(), span
        written = [piece async for piece in queries.lines(*asked, limit=limit, ledger_head=HEAD)]
        pages = [page async for page in queries.stream(*asked, limit=limit, ledger_head=HEAD)]
        await pool.close()
        return b"".join(written), b"".join(map(msgspec.json.Encoder().encode_lines, pages))

    return asyncio.run(read())


def row(at: datetime, text: str, source: str | None, id_: UUID) -> tuple[Any, ...]:
    return (
        at,
        id_,
        id_,
        id_,
        None,
        id_,
        3,
        0x5E1F09,
        "scim_token.refused",
        text,
        "scim",
        source,
        text,
        "GET",
        None,
        text,
        text,
        id_,
        text,
        None,
    )


@given(ROWS, st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_they_are_the_same_bytes(
    database: Database, rows: list[tuple[Any, ...]], is_newest_first: bool
) -> None:
    put(database, rows)
    written, expected = both(database, Span(is_newest_first))
    assert written == expected
    assert written.count(b"\n") == len(rows)


def test_also_of_what_needs_an_escape_and_of_every_millisecond(database: Database) -> None:
    start = datetime(2021, 8, 10, 10, tzinfo=UTC)
    nasty = [
        row(start + timedelta(milliseconds=ms), NASTY, "192.0.2.1", uuid4()) for ms in range(1001)
    ]
    put(database, nasty)
    written, expected = both(database, Span(is_newest_first=False))
    assert written == expected


@pytest.mark.parametrize(
    ("limit", "is_newest_first"),
    by_turns(
        product([0, 1, LINES - 1, LINES, LINES + 1, 2 * LINES, None], [True, False]), one_of=3
    ),
)
def test_pages_end_where_they_should(
    database: Database, limit: int | None, is_newest_first: bool
) -> None:
    put(database, [row(datetime(2021, 8, 10, tzinfo=UTC), "x", None, UUID(int=1))] * 2 * LINES)
    written, expected = both(database, Span(is_newest_first), limit=limit)
    assert written == expected
    assert written.count(b"\n") == (2 * LINES if limit is None else limit)


@given(st.text())
def test_a_class_of_paths_is_a_word(path: str) -> None:
    for class_ in (path_class(path), route_class(path)):
        assert json.dumps(class_) == f'"{class_}"'


def test_an_address_that_is_written_otherwise_is_left_to_python(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the check of the bytes notices when it is not."""
    put(database, [row(datetime(2021, 8, 10, tzinfo=UTC), "x", "::192.0.2.1", UUID(int=1))])
    written, expected = both(database, Span())
    assert written == expected
    assert b'"source":"::c000:201"' in written
    monkeypatch.setattr(audit_lines, "has_odd_address", lambda _: False)
    written, expected = both(database, Span())
    assert written != expected


def test_they_are_read_in_the_order_of_an_index(server: str) -> None:
    with new_database(server) as made, psycopg.connect(made.app, autocommit=True) as connection:
        generate(connection, 20_000)
        configure(connection, READING)
        for narrow, index in ((AuditFilter(), "pkey"), (AuditFilter(teams=[team(5)]), "team")):
            select, parameters = lines_statement(narrow, Span(), limit=50)
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {select.format(table=TABLE)}"
            found = connection.execute(explained.encode(), parameters).fetchone()
            assert found is not None
            assert f"{PROJECTION.name}_v{VERSION}_{index}" in str(found[0])
            assert "Seq Scan" not in str(found[0])
            assert "'Sort'" not in str(found[0])
            assert found[0][0]["Plan"]["Shared Hit Blocks"] < 150


def test_a_reader_that_leaves_leaves_nothing_behind(database: Database) -> None:
    put(database, [row(datetime(2021, 8, 10, tzinfo=UTC), "x", None, UUID(int=1))] * 3 * LINES)

    async def read() -> None:
        pool = ReadPool(database.app, size=1)
        queries = AuditQueries(pool)
        for _ in range(3):
            lines = queries.lines(AuditFilter(), Span(), limit=None, ledger_head=HEAD)
            assert (await anext(lines)).count(b"\n") == LINES
            await lines.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=10)
        assert (await queries.page(AuditFilter(), Span(), limit=1, ledger_head=HEAD)).events
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await pool.close()

    asyncio.run(read())

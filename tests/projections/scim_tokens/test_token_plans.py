"""C15, C16: a page of tokens is read along an index, whatever statistics there are, or none."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.connection import configure
from domain.postgres.read_pool import FORGET_PLANS
from domain.postgres.session import READING
from domain.scim_token.conditions import LongestLives
from domain.scim_token.values import ENDLESS_DAYS
from projections.audit_trail import view as audit_trail
from projections.projection import Projection
from projections.scim_tokens import as_of
from projections.scim_tokens import walk as token_walk
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import statement
from projections.scim_tokens.view import PROJECTION
from projections.token_sources import view as token_sources
from projections.token_sources.view import FEW
from tests.conftest import new_database
from tests.turns import by_turns

VERSION: Final = 99
TABLES: Final[Mapping[str, str]] = {
    each.name: each.table(VERSION)
    for each in (PROJECTION, audit_trail.PROJECTION, token_sources.PROJECTION)
}
TABLE: Final = TABLES["scim_tokens"]
ROWS: Final = 20_000
MANY_ROWS: Final = 1_000_000
LIMIT: Final = 100
T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
AT: Final = datetime(2026, 6, 1, tzinfo=UTC)
SOON: Final = AT + timedelta(days=60)
SINCE: Final = T0 + timedelta(seconds=6600)
ADA: Final = UUID(int=77)
"""A user who made every third token."""
BIG, SMALL, GONE, ABSENT = (UUID(int=number) for number in (0, 7, 201, 999))
"""Teams: one with nine tenths of all tokens, one with few, one of which all are revoked,
one with none.
"""

_GENERATE: Final = f"""
    INSERT INTO {TABLE} (id, team_id, name, created_by, last_used_at, created_at, updated_at,
        expires_at, rotated_at, revoked_at, suspended_at, next_warning_at, unused_since,
        secrets, rotation_ends_at, before_use, last_use, after_use, is_used, lifetime_days)
    SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(team), 32, '0')::uuid,
        CASE WHEN n %% 2 = 0 THEN 'Okta' ELSE 'name ' || n END,
        CASE WHEN n %% 3 = 0 THEN '{ADA}' ELSE gen_random_uuid() END,
        CASE WHEN n %% 50 <> 1 AND n <> 2050 THEN at END, at, at,
        at + days * interval '24 hours', NULL,
        CASE WHEN n %% 20 = 3 OR n = 4050 OR team = 201 THEN at END,
        CASE WHEN n %% 50 = 8 OR n = 2050 THEN at END, NULL, NULL, '[]',
        CASE WHEN n %% 50 = 0 THEN timestamptz '2026-07-01Z' END,
        n::text, '', '', n %% 50 <> 1 AND n <> 2050,
        CASE WHEN n %% 20 = 3 OR n = 4050 OR team = 201 THEN NULL
            ELSE coalesce(days, {ENDLESS_DAYS}) END
    FROM (
        SELECT n, CASE WHEN n %% 50 = 3 THEN 0 WHEN n > 100 AND n <= 400 THEN 180
                WHEN n %% 50 IN (5, 6) THEN 400 + n %% 20 END AS days,
            CASE WHEN n %% 10 = 0 THEN n / 10 %% 200 + 2 ELSE 0 END AS team,
            timestamptz '2026-01-01Z' + n / 3 * interval '1 s' AS at
        FROM generate_series(%s::int, %s::int) n
    ) generated
"""
_ADDRESSES: Final = f"""
    INSERT INTO {TABLES["token_sources"]}
    SELECT uuid_send(lpad(to_hex(n), 32, '0')::uuid) || convert_to(address, 'UTF8'),
        timestamptz '2026-01-01Z' + n / 3 * interval '1 s', true, 1
    FROM generate_series(1, %s::int) n, unnest(ARRAY['', '192.0.2.1', '192.0.2.2']) address
    WHERE address IN ('', '192.0.2.1') OR n %% 100 = 7 OR n = 19810
"""
_OF_ANOTHER_DAY: Final = f"""
    INSERT INTO {TABLE} (id, team_id, name, created_by, last_used_at, created_at, updated_at,
        expires_at, rotated_at, revoked_at, suspended_at, next_warning_at, unused_since,
        secrets, rotation_ends_at, before_use, last_use, after_use, is_used, lifetime_days)
    SELECT gen_random_uuid(), '{SMALL}', 'Okta', gen_random_uuid(), NULL, at, at, NULL, NULL, NULL,
        NULL, NULL, NULL, '[]', NULL, 'before', 'use', 'after', false, {ENDLESS_DAYS}
    FROM generate_series(1, 300) n, (VALUES (timestamptz '2025-12-01Z')) AS long_ago (at)
"""
"""All tokens are of one team, of one name, and none was used or revoked."""
_ENDING_LATE: Final = f"""
    INSERT INTO {TABLE} (id, team_id, name, created_by, last_used_at, created_at, updated_at,
        expires_at, rotated_at, revoked_at, suspended_at, next_warning_at, unused_since,
        secrets, rotation_ends_at, before_use, last_use, after_use, is_used, lifetime_days)
    SELECT gen_random_uuid(), '{BIG}', 'Okta', gen_random_uuid(), NULL, at, at,
        at + interval '9600 hours', NULL, NULL, NULL, NULL, NULL,
        '[]', NULL, 'before', 'use', 'after', false, 400
    FROM generate_series(1, %s) n, LATERAL (SELECT %s - n * interval '1 s') AS lately (at)
"""

QUESTIONS: Final[Mapping[str, tuple[TokenFilter, int | None]]] = {
    "all": (TokenFilter(), 1),
    "all, whatever became of them": (TokenFilter(status="all"), 1),
    "revoked": (TokenFilter(status="revoked"), 1),
    # Without statistics of values both indexes of the team cost the same, and the sample of an
    # ANALYZE decides: on that of all its tokens, eighteen are met for each revoked one.
    "revoked, of a big team": (TokenFilter(teams=[BIG], status="revoked"), 20),
    "revoked, of a small team": (TokenFilter(teams=[SMALL], status="revoked"), 20),
    "suspended": (TokenFilter(status="suspended"), 2),
    "suspended, of a small team": (TokenFilter(teams=[SMALL], status="suspended"), 2),
    "expired": (TokenFilter(status="expired"), 2),
    "expired, of a big team": (TokenFilter(teams=[BIG], status="expired"), 2),
    "a new address": (TokenFilter(new_source_since=SINCE), 5),
    "a new address, in a small team": (
        TokenFilter(teams=[UUID(int=183)], new_source_since=SINCE),
        5,
    ),
    "a new address, in two teams": (TokenFilter(teams=[SMALL, BIG], new_source_since=SINCE), 5),
    "no new address": (TokenFilter(new_source_since=AT), 1),
    "a big team": (TokenFilter(teams=[BIG]), 1),
    "a small team": (TokenFilter(teams=[SMALL]), 1),
    "a team whose tokens are all revoked": (TokenFilter(teams=[GONE]), 1),
    "no such team": (TokenFilter(teams=[ABSENT]), 1),
    "no team": (TokenFilter(teams=[]), 1),
    "two teams": (TokenFilter(teams=[BIG, SMALL]), 2),
    "many teams": (TokenFilter(teams=[UUID(int=n) for n in range(2, 52)]), 50),
    "all of two teams": (TokenFilter(teams=[BIG, SMALL], status="all"), 2),
    "a name": (TokenFilter(name="name 4711"), 1),
    "a common name": (TokenFilter(name="Okta"), 2),
    "a common name in a small team": (TokenFilter(teams=[SMALL], name="Okta"), 2),
    "no such name": (TokenFilter(name="Entra"), 1),
    "no such name in a big team": (TokenFilter(teams=[BIG], name="Entra"), 1),
    "a name in two teams": (TokenFilter(teams=[BIG, SMALL], name="name 4711"), 2),
    "rotating": (TokenFilter(is_rotating=True), 2),
    "rotating, of a small team": (TokenFilter(teams=[SMALL], is_rotating=True), 2),
    "never used": (TokenFilter(is_never_used=True), 2),
    "never used, of a big team": (TokenFilter(teams=[BIG], is_never_used=True), 2),
    "never used, of a small team": (TokenFilter(teams=[SMALL], is_never_used=True), 2),
    "suspended, made by somebody": (TokenFilter(status="suspended", created_by=ADA), 5),
    "suspended, of a common name": (TokenFilter(status="suspended", name="Okta"), 3),
    "rotating, made by somebody": (TokenFilter(is_rotating=True, created_by=ADA), 5),
    "made by somebody": (TokenFilter(created_by=ADA), 2),
    "made by somebody, for a big team": (TokenFilter(teams=[BIG], created_by=ADA), 2),
    "no token made by somebody else": (TokenFilter(created_by=ABSENT), 1),
    "no token made by somebody else, in two teams": (
        TokenFilter(teams=[BIG, SMALL], created_by=ABSENT),
        1,
    ),
    "about to end": (TokenFilter(expires_before=SOON), 2),
    "about to end, of a big team": (TokenFilter(teams=[BIG], expires_before=SOON), 2),
    "about to end, of two teams": (TokenFilter(teams=[SMALL, BIG], expires_before=SOON), 2),
    "about to end, made by somebody": (TokenFilter(created_by=ADA, expires_before=SOON), None),
    "about to end, made by somebody for a big team": (
        TokenFilter(teams=[BIG], created_by=ADA, expires_before=SOON),
        None,
    ),
    "about to end, made by somebody for two teams": (
        TokenFilter(teams=[SMALL, BIG], created_by=ADA, expires_before=SOON),
        None,
    ),
    "about to end, made by somebody for a small team": (
        TokenFilter(teams=[UUID(int=20)], created_by=ADA, expires_before=SOON),
        5,
    ),
    "about to end, made by somebody for two small teams": (
        TokenFilter(teams=[UUID(int=20), UUID(int=23)], created_by=ADA, expires_before=SOON),
        5,
    ),
    "no token ended, made by somebody for a small team": (
        TokenFilter(teams=[SMALL], created_by=ADA, status="expired"),
        5,
    ),
    "ended, made by somebody": (TokenFilter(created_by=ADA, status="expired"), None),
    "no token about to end": (TokenFilter(expires_before=AT + timedelta(days=14)), 1),
    "no token of teams about to end": (
        TokenFilter(teams=[SMALL, BIG], expires_before=AT + timedelta(days=14)),
        1,
    ),
    "ended": (TokenFilter(expires_before=AT, status="expired"), 2),
    "too long": (TokenFilter(violates_policy=True), 6),
    "too long, without an end": (TokenFilter(violates_policy=True), 1),
    "too long, of a big team": (TokenFilter(teams=[BIG], violates_policy=True), 6),
    "too long, of a team that asks for less": (TokenFilter(teams=[SMALL], violates_policy=True), 3),
    "too long, of teams that ask for less": (TokenFilter(violates_policy=True), 6),
    "too long, suspended": (TokenFilter(violates_policy=True, status="suspended"), 2),
    "too long, made by somebody": (TokenFilter(created_by=ADA, violates_policy=True), None),
    "too long, about to end": (TokenFilter(violates_policy=True, expires_before=SOON), 2),
    "no token too long": (TokenFilter(violates_policy=True), 1),
    "no token of a team too long": (TokenFilter(teams=[BIG], violates_policy=True), 1),
    "unused for long": (TokenFilter(unused_since=T0 + timedelta(hours=1)), 2),
}
"""With how many times `LIMIT` rows may be read for a page;
None where a filter may meet few on the way.
"""
ALLOWED: Final[Mapping[str, LongestLives]] = {
    "too long": LongestLives(300),
    "too long, without an end": LongestLives(ENDLESS_DAYS - 1),
    "too long, of a big team": LongestLives(300, {SMALL: 90}),
    "too long, of a team that asks for less": LongestLives(410, {SMALL: 300}),
    "too long, of teams that ask for less": LongestLives(own={SMALL: 300, GONE: 90, ABSENT: 1}),
    "too long, suspended": LongestLives(300),
    "too long, made by somebody": LongestLives(300),
    "too long, about to end": LongestLives(179, {SMALL: 178}),
    "no token too long": LongestLives(),
    "no token of a team too long": LongestLives(own={SMALL: 300}),
}
"""What the policies in force allow, where a question is about that."""


def is_of_now(narrow: TokenFilter) -> bool:
    """Whether it is not asked of the past."""
    return (
        narrow.status == "suspended"
        or narrow.is_rotating
        or narrow.violates_policy
        or narrow.expires_before is not None
    )


UNLIMITED: Final = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN "
    "('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')"
)
"""This is about plans, and a busy machine may take seconds to make the rows."""
PASSED_OVER_MAX: Final = 30
"""Blocks: of all tokens an index has a hundred."""
STATES: Final = ("none", "of another day", "of today", "of an empty table")


def make(connection: psycopg.Connection, projection: Projection) -> None:
    connection.execute(projection.create_table(VERSION).encode())
    connection.execute(
        f"ALTER TABLE {projection.table(VERSION)} SET (autovacuum_enabled = false)".encode()
    )
    for each in projection.create_indexes(VERSION):
        connection.execute(each.encode())


def fill(connection: psycopg.Connection, rows: int) -> None:
    """Tokens, of each hundredth two addresses, of the others one."""
    for start in range(1, rows, 10_000):
        connection.execute(_GENERATE.encode(), [start, start + 9_999])
    connection.execute(_ADDRESSES.encode(), [rows])


@pytest.fixture(scope="module", params=by_turns(STATES, one_of=len(STATES)))
def table(server: str, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """Twenty thousand tokens, and what the planner knows of them."""
    with (
        new_database(server) as database,
        psycopg.connect(database.app, autocommit=True) as connection,
    ):
        for projection in (PROJECTION, audit_trail.PROJECTION, token_sources.PROJECTION):
            make(connection, projection)
        configure(connection, READING)
        connection.execute(UNLIMITED.encode())
        if request.param == "of an empty table":
            for question in QUESTIONS:
                explain(connection, question)
                if not is_of_now(QUESTIONS[question][0]):
                    explain(connection, question, as_it_was=True)
        if request.param == "of another day":
            connection.execute(_OF_ANOTHER_DAY.encode())
            connection.execute(f"ANALYZE {TABLE}".encode())
        fill(connection, ROWS)
        if request.param == "of an empty table":
            connection.execute(FORGET_PLANS)  # as a pool does within a second
        if request.param == "of today":
            connection.execute(f"ANALYZE {TABLE}".encode())
        yield connection


def asked(
    question: str, *, as_it_was: bool, after: PageEnd | None = None, few: int = FEW
) -> tuple[str, Mapping[str, Any]]:
    narrow, _ = QUESTIONS[question]
    if not as_it_was:
        lives = ALLOWED.get(question)
        select, parameters = statement(narrow, lives, after=after, limit=LIMIT - 1, at=AT)
        return select.replace(str(FEW + 1), str(few + 1)).replace(str(FEW), str(few)), parameters
    newest, parameters = as_of._newest(narrow, after=after, limit=LIMIT - 1, at=AT)
    return as_of._SQL["as_it_was"].replace("{newest}", newest), parameters


def explain(
    connection: psycopg.Connection,
    question: str,
    *,
    as_it_was: bool = False,
    after: PageEnd | None = None,
    few: int = FEW,
) -> dict[str, Any]:
    """What the database did for a question, by a prepared statement, whose plan is made once."""
    select, parameters = asked(question, as_it_was=as_it_was, after=after, few=few)
    select = select.format(table=TABLE, **TABLES)
    name = f"q{abs(hash(select))}"
    known = connection.execute(
        "SELECT FROM pg_prepared_statements WHERE name = %s", [name]
    ).fetchone()
    names = [each for each in parameters if f"%({each})s" in select]
    if known is None:
        numbered = select % {each: f"${place}" for place, each in enumerate(names, start=1)}
        connection.execute(f"PREPARE {name} AS {numbered}".encode())
    values = psycopg.ClientCursor(connection).mogrify(
        ", ".join(f"%({each})s" for each in names), parameters
    )
    row = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {name}({values})".encode()
    ).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan["Actual Loops"]:
        yield plan
        for child in plan.get("Plans", ()):
            yield from nodes(child)


def rows_read(plan: dict[str, Any]) -> float:
    """Of tables: what scans returned, and what they looked at and left out;
    filters of a walk, too.
    """
    read = 0.0
    for node in nodes(plan):
        if "Relation Name" in node or node["Node Type"] == "Subquery Scan":
            left_out = node.get("Rows Removed by Filter", 0) + node.get(
                "Rows Removed by Index Recheck", 0
            )
            is_table = "Relation Name" in node
            read += node["Actual Loops"] * (left_out + (node["Actual Rows"] if is_table else 0))
    return read


def blocks_read(plan: dict[str, Any]) -> int:
    """Of tables and indexes, also what an index was passed over."""
    blocks: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return blocks


def unsuitable(plan: dict[str, Any], *, times: int | None) -> list[str]:
    """What is wrong with a plan: it reads more than it shows, or other rows than in their order."""
    kinds = {node["Node Type"] for node in nodes(plan)}
    wrong = sorted(kinds & {"Seq Scan", "Parallel Seq Scan", "Bitmap Heap Scan"})
    is_merged = bool(kinds & {"Function Scan", "CTE Scan"})  # what is sorted is few then
    wrong += ["Sort"] if "Sort" in kinds and not is_merged else []
    if times is not None and rows_read(plan) > times * (LIMIT + 10) + 20:
        wrong.append(f"{rows_read(plan):.0f} rows")
    return wrong


@pytest.mark.parametrize("question", by_turns(QUESTIONS, one_of=5))
def test_a_page_is_read_along_an_index(table: psycopg.Connection, question: str) -> None:
    times = QUESTIONS[question][1]
    assert unsuitable(explain(table, question), times=times) == []
    middle = PageEnd(T0 + timedelta(seconds=ROWS / 6), UUID(int=ROWS // 2))
    assert unsuitable(explain(table, question, after=middle), times=times) == []


@pytest.mark.parametrize("as_it_was", [False, True])
@pytest.mark.parametrize("question", ["unused for long", "about to end", "ended", "a big team"])
def test_a_page_far_behind_begins_there(
    table: psycopg.Connection, question: str, as_it_was: bool
) -> None:
    """What stands before it in the index is not passed over."""
    if as_it_was and not is_of_now(QUESTIONS[question][0]):
        question = "all, whatever became of them"
    far = PageEnd(T0 + timedelta(seconds=ROWS / 6 * 0.05), UUID(int=ROWS // 20))
    blocks = [
        blocks_read(explain(table, question, as_it_was=as_it_was, after=after))
        for after in (None, far)
    ]
    assert blocks[1] <= blocks[0] + PASSED_OVER_MAX


def test_nor_what_ends_too_late(table: psycopg.Connection) -> None:
    """Of a life whose tokens end later than asked for, the page behind another begins further."""
    with table.transaction(force_rollback=True):
        blocks = [blocks_read(explain(table, "about to end", after=PageEnd(AT, ABSENT)))]
        table.execute(_ENDING_LATE.encode(), [ROWS, AT])
        blocks.append(blocks_read(explain(table, "about to end", after=PageEnd(AT, ABSENT))))
    assert blocks[1] <= blocks[0] + PASSED_OVER_MAX


@pytest.mark.parametrize(
    "question",
    [
        "about to end, made by somebody",
        "about to end, made by somebody for a big team",
        "about to end, made by somebody for two teams",
        "too long, made by somebody",
        "ended, made by somebody",
    ],
)
def test_a_user_s_tokens_are_not_looked_at_one_by_one_where_they_are_many(
    table: psycopg.Connection, question: str
) -> None:
    middle = PageEnd(T0 + timedelta(seconds=ROWS / 6), UUID(int=ROWS // 2))
    for after in (None, middle):
        assert unsuitable(explain(table, question, after=after, few=30), times=20) == []


SMALL_NO_MORE: Final = {
    "about to end, made by somebody for a small team",
    "about to end, made by somebody for two small teams",
}
"""Their teams grow with the table: of a million, a page is looked for among the tokens of each
life, as where a user's tokens are many.
"""
GROWN: Final = 20


@pytest.mark.slow
@pytest.mark.parametrize("state", ["none", "of today"])
def test_among_a_million_tokens_a_page_reads_no_more(server: str, state: str) -> None:
    """But for new addresses, of which a page looks at twenty thousand before they are many."""
    with (
        new_database(server) as database,
        psycopg.connect(database.app, autocommit=True) as connection,
    ):
        for projection in (PROJECTION, audit_trail.PROJECTION, token_sources.PROJECTION):
            make(connection, projection)
        fill(connection, MANY_ROWS)
        if state == "of today":
            connection.execute(f"ANALYZE {TABLE}".encode())
        configure(connection, READING)
        middle = PageEnd(T0 + timedelta(seconds=MANY_ROWS / 6), UUID(int=MANY_ROWS // 2))
        wrong = {
            (question, place): found
            for question, (narrow, few) in QUESTIONS.items()
            for place in (None, middle)
            for times in [GROWN if question in SMALL_NO_MORE else few]
            if narrow.new_source_since is None
            and (found := unsuitable(explain(connection, question, after=place), times=times))
        }
        assert wrong == {}


@pytest.mark.parametrize(
    "question",
    by_turns(
        [
            question
            for question, (narrow, _) in QUESTIONS.items()
            if not is_of_now(narrow)
            and narrow.unused_since is None
            and narrow.new_source_since is None
        ],
        one_of=5,
    ),
)
def test_so_is_a_page_as_it_was(table: psycopg.Connection, question: str) -> None:
    narrow, times = QUESTIONS[question]
    if narrow.is_never_used or narrow.status == "expired" or narrow == TokenFilter(teams=[GONE]):
        times = None  # nothing is known of then but by a look at each
    assert unsuitable(explain(table, question, as_it_was=True), times=times and 2 * times) == []


def as_it_was_asked(index: Any, bounds: Any, filters: Any, *, is_of_one_team: bool | None) -> str:
    """As it was: all conditions beside the order, and all else left to the planner."""
    team = {None: [], True: ["team_id = %(team)s"], False: ["team_id = ANY(%(teams)s)"]}[
        is_of_one_team
    ]
    where = " AND ".join(["true", *index, *bounds, *filters, *team])
    return f"SELECT * FROM {{table}} WHERE {where} {token_walk.ORDER} LIMIT %(limit)s"


def test_planted_a_list_whose_plan_is_left_to_the_planner_is_noticed(
    table: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.scim_tokens.queries.along", as_it_was_asked)
    assert any(
        unsuitable(explain(table, question), times=times)
        for question, (_, times) in QUESTIONS.items()
    )


def shown(connection: psycopg.Connection, question: str, *, few: int = FEW) -> Any:
    """A page: its documents, how many, and where it ends."""
    select, parameters = asked(question, as_it_was=False, few=few)
    return connection.execute(select.format(table=TABLE, **TABLES).encode(), parameters).fetchall()


@pytest.mark.parametrize("question", by_turns(QUESTIONS, one_of=5))
def test_a_page_holds_what_is_asked_for(
    table: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """However few are many, and as the plainest of statements finds it."""
    found = shown(table, question)
    assert shown(table, question, few=0) == shown(table, question, few=30) == found
    with monkeypatch.context() as patch:
        patch.setattr("projections.scim_tokens.queries.along", as_it_was_asked)
        patch.setattr("projections.scim_tokens.queries.is_by_life", lambda _: False)
        assert shown(table, question, few=0) == found
    is_empty = question.startswith("no ") or "all revoked" in question
    assert (found[0][1] == 0) == is_empty

"""The hot questions to a long trail are answered from its indexes,
however old or rare the rows are.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import product
from typing import Any, Final

import psycopg
import pytest

from domain.postgres.connection import configure
from domain.postgres.session import READING
from projections.audit_trail.statement import FEW, AuditFilter, Span, statement
from projections.audit_trail.view import PROJECTION, USED
from tests.conftest import new_database
from tests.projections.many_rows import TABLE, VERSION, begin, fill, generate, team, token, user
from tests.turns import by_turns

ROWS: Final = 100_000
MANY_ROWS: Final = 10_000_000
LIMIT: Final = 100
FROM: Final = datetime(2021, 1, 2, tzinfo=UTC)
RANGE: Final[dict[str, Any]] = {"from_at": FROM, "to_at": FROM + timedelta(hours=1)}
RARE: Final = frozenset({"scim_token.refused", "refusal_tally.counted"})
ABSENT: Final = frozenset({"api_token.created"})
USES: Final = frozenset({USED})
BUSY: Final = 1
"""A user, and an API token, by whom all is that is no use and no refusal."""
STATISTICS: Final = ("of today", "none", "of another day")

QUESTIONS: Final[dict[str, tuple[AuditFilter, set[str]]]] = {
    "all": (AuditFilter(), {"pkey"}),
    "a team": (AuditFilter(teams=[team(5)]), {"team"}),
    "several teams": (AuditFilter(teams=[team(number) for number in range(10)]), {"team"}),
    "a token": (AuditFilter(token_id=token(5)), {"token"}),
    "a secret of a token": (AuditFilter(token_id=token(5), secret=-5), {"secret"}),
    "a secret that was never used": (AuditFilter(token_id=token(5), secret=1), {"secret"}),
    "refusals of a secret": (
        AuditFilter(token_id=token(5), secret=-5, kinds=RARE),
        {"rare_token"},
    ),
    "a secret of a foreign token": (
        AuditFilter(teams=[team(5)], token_id=token(500), secret=-500),
        {"token"},
    ),
    "a foreign token": (AuditFilter(teams=[team(5)], token_id=token(500)), {"token"}),
    "a user": (AuditFilter(user_id=user(5)), {"user"}),
    "an API token": (AuditFilter(api_token_id=user(5)), {"api_token"}),
    "a user in a team": (AuditFilter(teams=[team(5)], user_id=user(BUSY)), {"team_user"}),
    "a user in several teams": (
        AuditFilter(teams=[team(number) for number in range(10)], user_id=user(BUSY)),
        {"team_user"},
    ),
    "an API token in a team": (
        AuditFilter(teams=[team(5)], api_token_id=user(BUSY)),
        {"team_api_token"},
    ),
    "an API token in several teams": (
        AuditFilter(teams=[team(number) for number in range(10)], api_token_id=user(BUSY)),
        {"team_api_token"},
    ),
    "refusals": (AuditFilter(kinds=RARE), {"rare"}),
    "refusals of a team": (AuditFilter(teams=[team(5)], kinds=RARE), {"rare_team"}),
    "refusals of a token": (AuditFilter(token_id=token(5), kinds=RARE), {"rare_token"}),
    "what never happened": (AuditFilter(kinds=ABSENT), {"rare"}),
    "an hour": (AuditFilter(**RANGE), {"at", "pkey"}),
    "an hour of a team": (AuditFilter(teams=[team(5)], **RANGE), {"at", "team"}),
    "long ago, of a team": (AuditFilter(teams=[team(5)], to_at=FROM), {"at", "team"}),
    "most of a token": (
        AuditFilter(token_id=token(5), from_at=FROM - timedelta(hours=20)),
        {"at", "token"},
    ),
    "a token of a team": (AuditFilter(teams=[team(5)], token_id=token(15)), {"token"}),
    "an hour of a token": (AuditFilter(token_id=token(5), **RANGE), {"at", "token"}),
    "a rare address": (AuditFilter(source=ip_network("192.0.3.5")), {"source"}),
    "a rare network": (AuditFilter(source=ip_network("192.0.3.0/24")), {"source"}),
    "a common network": (AuditFilter(source=ip_network("192.0.2.0/24")), {"source", "pkey"}),
    "no such network": (AuditFilter(source=ip_network("10.0.0.0/8")), {"source"}),
    "a rare network of a team": (
        AuditFilter(teams=[team(5)], source=ip_network("192.0.3.0/24")),
        {"source"},
    ),
}


@pytest.fixture(scope="module", params=by_turns(STATISTICS, one_of=3))
def connection(server: str, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A trail of a hundred thousand rows. C15: whatever statistics there are, or none."""
    with new_database(server) as database, psycopg.connect(database.app, autocommit=True) as opened:
        if request.param == "of today":
            generate(opened, ROWS)
        else:
            begin(opened)
            if request.param == "of another day":
                fill(opened, 1, 100)
                opened.execute(f"ANALYZE {TABLE}".encode())
            fill(opened, 101, ROWS)
        configure(opened, READING)
        opened.execute("SELECT set_config('views.statistics', %s, false)", [request.param])
        yield opened


def statistics(connection: psycopg.Connection) -> str:
    """Which there are."""
    row = connection.execute("SELECT current_setting('views.statistics')").fetchone()
    assert row is not None
    return str(row[0])


def explain(
    connection: psycopg.Connection, narrow: AuditFilter, span: Span, *, limit: int = LIMIT
) -> dict[str, Any]:
    """What the planner did with a question, and what it touched."""
    select, parameters = statement(narrow, span, limit=limit)
    explained = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {select.format(table=TABLE)}"
    row = connection.execute(explained.encode(), parameters).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that ran: a branch that was not needed is free."""
    if plan["Actual Loops"]:
        yield plan
        for child in plan.get("Plans", ()):
            yield from nodes(child)


def indexes(plan: dict[str, Any]) -> set[str]:
    names = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    return {name.removeprefix(f"{PROJECTION.name}_v{VERSION}_") for name in names}


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("question", "is_newest_first", "plans"),
    by_turns(
        product(QUESTIONS, [True, False], ["force_custom_plan", "force_generic_plan"]), one_of=5
    ),
)
def test_a_page_is_read_from_an_index(
    connection: psycopg.Connection, question: str, plans: str, *, is_newest_first: bool
) -> None:
    narrow, expected = QUESTIONS[question]
    connection.execute(f"SET plan_cache_mode = {plans}".encode())
    plan = explain(connection, narrow, Span(is_newest_first=is_newest_first))

    assert {node["Node Type"] for node in nodes(plan)}.isdisjoint({"Seq Scan", "Parallel Seq Scan"})
    is_merged = narrow.source is not None or "Function Scan" in {
        node["Node Type"] for node in nodes(plan)
    }
    assert is_merged or "Sort" not in {node["Node Type"] for node in nodes(plan)}
    assert expected <= indexes(plan)
    # 100 rows from anywhere cost a page each at most, and as many per team or for a network's
    # probe.
    assert pages(plan) <= (FEW if narrow.source else 15 * LIMIT)


def test_a_page_far_into_the_trail_costs_what_the_first_one_does(
    connection: psycopg.Connection,
) -> None:
    for narrow in (AuditFilter(), AuditFilter(teams=[team(5)]), AuditFilter(token_id=token(5))):
        deep = explain(connection, narrow, Span(after=ROWS // 2))
        first = explain(connection, narrow, Span())
        assert pages(deep) <= pages(first) + 20


@pytest.mark.parametrize("is_newest_first", [True, False])
@pytest.mark.parametrize(
    "narrow",
    [
        AuditFilter(user_id=user(BUSY), kinds=USES),
        AuditFilter(api_token_id=user(BUSY), kinds=USES),
        AuditFilter(teams=[team(5)], kinds=frozenset()),
        AuditFilter(teams=[team(5), team(6)], user_id=user(BUSY), kinds=USES),
        AuditFilter(token_id=token(5), kinds=frozenset()),
        AuditFilter(kinds=frozenset()),
    ],
)
def test_what_cannot_be_is_not_looked_for(
    connection: psycopg.Connection, narrow: AuditFilter, *, is_newest_first: bool
) -> None:
    plan = explain(connection, narrow, Span(is_newest_first=is_newest_first))
    assert indexes(plan) == set()
    assert plan["Actual Rows"] == 0


def test_planted_a_question_without_an_index_is_caught(connection: psycopg.Connection) -> None:
    connection.execute("SET plan_cache_mode = auto")
    plan = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {TABLE} WHERE note = 'x' "
        f"LIMIT 1".encode()
    ).fetchone()
    assert plan is not None
    found = plan[0][0]["Plan"]
    assert any("Seq Scan" in node["Node Type"] for node in nodes(found))
    assert pages(found) > 15 * LIMIT


def test_a_row_is_small(connection: psycopg.Connection) -> None:
    if statistics(connection) != "of today":
        pytest.skip("that is about a table that was built")
    row = connection.execute(
        "SELECT pg_table_size(%(t)s) / %(n)s, pg_indexes_size(%(t)s) / %(n)s",
        {"t": TABLE, "n": ROWS},
    ).fetchone()
    assert row is not None
    assert row[0] <= 184  # four of them say which secret it was
    assert row[1] <= 192


@pytest.mark.slow
def test_ten_million_rows_are_no_slower(server: str) -> None:
    with (
        new_database(server) as database,
        psycopg.connect(database.app, autocommit=True) as connection,
    ):
        generate(connection, MANY_ROWS)
        configure(connection, READING)
        for question, (narrow, expected) in QUESTIONS.items():
            plan = explain(connection, narrow, Span())
            print(question, json.dumps(sorted(indexes(plan))), pages(plan))
            assert expected <= indexes(plan), question
            assert pages(plan) <= (2 * FEW if narrow.source else 15 * LIMIT), question

"""Tokens that conditions choose are found by short walks along an index, whatever is known of the
table; and they are those that the conditions say.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.connection import configure
from domain.postgres.session import READING
from domain.scim_token.conditions import LongestLives, TokenConditions
from projections.audit_trail import view as audit_trail
from projections.scim_tokens import matching
from projections.scim_tokens.matching import indexes, statement
from projections.scim_tokens.view import PROJECTION
from projections.token_sources import view as token_sources
from tests.conftest import new_database
from tests.projections.scim_tokens.test_token_plans import (
    ABSENT,
    BIG,
    GONE,
    MANY_ROWS,
    PASSED_OVER_MAX,
    ROWS,
    SMALL,
    T0,
    TABLE,
    blocks_read,
    fill,
    make,
    nodes,
    rows_read,
    table,
)
from tests.turns import by_turns

__all__ = ["table"]

STEP: Final = 100
LATER: Final = T0 + timedelta(hours=1)
QUESTIONS: Final[Mapping[str, tuple[TokenConditions, list[UUID] | None]]] = {
    "all that are old": (TokenConditions(created_before=LATER), None),
    "all that nobody uses": (TokenConditions(unused_since=LATER), None),
    "a big team": (TokenConditions(team_id=BIG), None),
    "a big team, unused": (TokenConditions(team_id=BIG, unused_since=LATER), None),
    "a small team": (TokenConditions(team_id=SMALL), [SMALL, BIG]),
    "a foreign team": (TokenConditions(team_id=BIG), [SMALL]),
    "a team whose tokens are all revoked": (TokenConditions(team_id=GONE), None),
    "what the caller's teams have": (TokenConditions(created_before=LATER), [SMALL, GONE, BIG]),
    "what the policies forbid": (
        TokenConditions(
            violates_policy=True, longest_lives=LongestLives(410, {SMALL: 300, ABSENT: 1})
        ),
        None,
    ),
    "what the policies of a team forbid": (
        TokenConditions(violates_policy=True, longest_lives=LongestLives(own={SMALL: 300})),
        [SMALL, BIG],
    ),
    "nothing that policies forbid": (TokenConditions(violates_policy=True), None),
    "nothing of a creator": (TokenConditions(created_by=ABSENT), None),
    "nothing of a creator in teams": (TokenConditions(created_by=ABSENT), [SMALL, BIG]),
    "some ids": (TokenConditions(ids=frozenset(map(UUID, [f"{n:032x}" for n in range(50)]))), None),
    "some ids of a team": (
        TokenConditions(ids=frozenset(map(UUID, [f"{n:032x}" for n in range(50)]))),
        [SMALL, BIG],
    ),
}


def walked(
    connection: psycopg.Connection,
    where: TokenConditions,
    teams: list[UUID] | None,
    *,
    reads_at_most: float | None = None,
) -> list[UUID]:
    """All that is chosen. reads_at_most: rows of the table, in one statement."""
    found: list[UUID] = []
    for index in indexes(where, teams):
        after: PageEnd | None = None
        while True:
            select, parameters = statement(where, index, teams=teams, after=after)
            text = psycopg.ClientCursor(connection).mogrify(select.format(table=TABLE), parameters)
            if reads_at_most is not None:
                assert_short(connection, text, reads_at_most)
            row: Any = connection.execute(text.encode()).fetchone()
            found += row[1] or []
            if row[2] is None:
                break
            after = PageEnd(row[2], row[3])
    return found


def assert_short(connection: psycopg.Connection, text: str, reads_at_most: float) -> None:
    row: Any = connection.execute(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}".encode()
    ).fetchone()
    plan = row[0][0]["Plan"]
    kinds = {node["Node Type"] for node in nodes(plan)}
    assert not kinds & {"Seq Scan", "Parallel Seq Scan"}, kinds
    assert rows_read(plan) <= reads_at_most, (rows_read(plan), text)


def test_a_step_far_behind_begins_there(
    table: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before it in the index is not passed over."""
    monkeypatch.setattr(matching, "STEP", STEP)
    blocks = []
    for after in (None, PageEnd(T0 + timedelta(seconds=ROWS / 60), UUID(int=ROWS // 20))):
        where, teams = QUESTIONS["all that are old"]
        select, parameters = statement(where, {}, teams=teams, after=after)
        text = psycopg.ClientCursor(table).mogrify(select.format(table=TABLE), parameters)
        row: Any = table.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}".encode())
        blocks.append(blocks_read(row.fetchone()[0][0]["Plan"]))
    assert blocks[1] <= blocks[0] + PASSED_OVER_MAX


def plainly(
    connection: psycopg.Connection, where: TokenConditions, teams: list[UUID] | None
) -> list[UUID]:
    """The same, as the conditions say it, of every token there is."""
    rows = connection.execute(
        f"SELECT id, team_id, created_by, created_at, last_used_at, expires_at FROM {TABLE} "
        "WHERE revoked_at IS NULL ORDER BY created_at DESC, id DESC".encode()
    ).fetchall()
    return [
        id_
        for id_, team_id, created_by, created_at, used_at, expires_at in rows
        if (teams is None or team_id in teams)
        and where.team_id in {None, team_id}
        and where.created_by in {None, created_by}
        and (where.ids is None or id_ in where.ids)
        and (where.created_before is None or created_at < where.created_before)
        and (
            where.unused_since is None
            or (created_at < where.unused_since and (used_at or T0) < where.unused_since)
        )
        and (
            not where.violates_policy
            or where.longest_lives.are_exceeded_by(
                team_id=team_id, created_at=created_at, expires_at=expires_at
            )
        )
    ]


@pytest.mark.parametrize("question", by_turns(QUESTIONS, one_of=3))
def test_each_statement_reads_one_stretch_of_an_index(
    table: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(matching, "STEP", STEP)
    where, teams = QUESTIONS[question]
    found = walked(table, where, teams, reads_at_most=STEP + 20)
    assert sorted(found) == sorted(plainly(table, where, teams))
    if len(indexes(where, teams)) == 1 and where.ids is None:
        assert found == plainly(table, where, teams)
    is_empty = question.startswith(("nothing", "a foreign")) or "all revoked" in question
    assert (not found) == is_empty


def test_of_a_foreign_team_no_row_is_read() -> None:
    assert indexes(TokenConditions(team_id=BIG), [SMALL]) == []
    assert indexes(TokenConditions(created_before=T0), []) == []


@pytest.mark.slow
def test_among_a_million_tokens_a_stretch_stays_short(server: str) -> None:
    with (
        new_database(server) as database,
        psycopg.connect(database.app, autocommit=True) as connection,
    ):
        for projection in (PROJECTION, audit_trail.PROJECTION, token_sources.PROJECTION):
            make(connection, projection)
        fill(connection, MANY_ROWS)
        connection.execute(f"ANALYZE {TABLE}".encode())
        configure(connection, READING)
        for where, teams in QUESTIONS.values():
            walked(connection, where, teams, reads_at_most=matching.STEP + 20)

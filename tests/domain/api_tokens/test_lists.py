"""A list of API tokens holds what the rules say, and is read along an index, whatever statistics
there are, or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.api_token.session import LIFETIME
from domain.api_token.token import ApiToken
from domain.authority import covers, is_manager, sees
from domain.eventstore.lookups import listed_api_tokens
from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.connection import configure
from domain.postgres.read_pool import FORGET_PLANS
from domain.postgres.session import READING
from domain.secret import Digest
from tests.conftest import Database, Run, new_database, open_ledger
from tests.domain.api_tokens.many import MANAGER, TEAMS, everyone, fill
from tests.turns import by_turns

AT: Final = datetime(2026, 6, 1, tzinfo=UTC)
FEW: Final = 600
MANY: Final = 50_000
LIMIT: Final = 100
BLOCKS: Final = 1000
"""Of 8 kB, for a page of a hundred: seven for each row, of three tables; the others hold the
entries of an index that are passed by."""
TEAM, OTHER = UUID(int=8), UUID(int=9)
MIDDLE: Final = PageEnd(AT - timedelta(days=20), UUID(int=1 << 127))
STATES: Final = ("none", "of another day", "of today", "of an empty table")


def manager(*teams: UUID) -> ApiToken:
    return ApiToken(
        UUID(int=1),
        1,
        UUID(int=2),
        tuple(teams) or None,
        (Permission.API_TOKENS_MANAGE,),
        Digest(bytes(32), 1),
        AT,
        None,
    )


CALLERS: Final = {
    "of all teams": manager(),
    "of one team": manager(TEAM),
    "of two teams that share tokens": manager(OTHER, TEAM),
    "of a team named twice": manager(TEAM, TEAM),
    "of half of the teams": manager(*(UUID(int=n) for n in range(0, TEAMS, 2))),
    "of a team without a token": manager(UUID(int=999)),
}


@pytest.fixture(scope="module")
def few(server: str) -> Iterator[Database]:
    with new_database(server) as database:
        fill(database, FEW, at=AT)
        yield database


@pytest.mark.parametrize(("caller", "limit"), by_turns(product(CALLERS, [1, 1000]), one_of=3))
def test_page_after_page_a_manager_is_told_of_the_good_ones_that_it_sees(
    few: Database, run: Run, caller: str, limit: int
) -> None:
    told: list[ApiToken] = []

    async def main() -> None:
        async with open_ledger(few.app) as ledger:
            after = None
            while True:
                page = await ledger.good_api_tokens(
                    seen_by=CALLERS[caller], at=AT, after=after, limit=limit
                )
                told.extend(page)
                if len(page) < limit:
                    return
                after = PageEnd(page[-1].created_at, page[-1].id)

    run(main())
    expected = [
        token for token in everyone(few) if sees(CALLERS[caller], token) and token.is_good(at=AT)
    ]
    assert told == expected
    assert bool(told) == (caller != "of a team without a token")


@pytest.mark.parametrize("limit", [1, 1000])
def test_page_after_page_the_operator_is_told_of_all(few: Database, run: Run, limit: int) -> None:
    told: list[ApiToken] = []

    async def main() -> None:
        async with open_ledger(few.app) as ledger:
            while page := await ledger.api_tokens(after=behind(told), limit=limit):
                told.extend(page)

    run(main())
    assert told == everyone(few)[::-1]
    assert len(told) == FEW


def behind(told: Sequence[ApiToken]) -> PageEnd | None:
    return PageEnd(told[-1].created_at, told[-1].id) if told else None


def test_the_sessions_that_a_revocation_ends_are_those_that_go_on(few: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(few.app) as ledger:
            live = partial(listed_api_tokens.live_sessions, ledger.reads, at=AT)
            found = {*await live([MANAGER], limit=FEW)}
            assert found == {
                token.id
                for token in everyone(few)
                if token.session_of == MANAGER and token.is_good(at=AT)
            }
            assert len(found) > 1
            some = await live([MANAGER], limit=len(found) - 1)
            assert len(some) == len(found) - 1
            assert {*some} < found
            assert not await live([TEAM], limit=FEW)

    run(main())


def test_whoever_else_manages_where_one_does_is_found(few: Database, run: Run) -> None:
    tokens = {token.id: token for token in everyone(few)}

    async def main() -> None:
        async with open_ledger(few.app) as ledger:
            for token in tokens.values():
                found = await listed_api_tokens.other_managers(ledger.reads, token.id, at=AT)
                assert all(
                    is_manager(tokens[each], at=AT)
                    and covers(tokens[each], token.teams)
                    and each != token.id
                    for each in found
                )
                assert found, "there are some of all teams"

    run(main())


def test_without_one_of_all_teams_those_of_its_teams_are_found(
    database: Database, run: Run
) -> None:
    fill(database, FEW, at=AT)
    with psycopg.connect(database.owner) as owner:
        owner.execute("DELETE FROM ledger.api_tokens WHERE teams IS NULL")
    kept = [token for token in everyone(database) if token.teams is not None]

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            for token in kept:
                others = {
                    each.id
                    for each in kept
                    if is_manager(each, at=AT) and covers(each, token.teams) and each != token
                }
                found = await listed_api_tokens.other_managers(ledger.reads, token.id, at=AT)
                assert {*found} <= others
                assert bool(found) == bool(others)

    run(main())


# Plans


@pytest.fixture(scope="module", params=by_turns(STATES[::-1], one_of=len(STATES)))
def many(server: str, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """Fifty thousand API tokens, or a third of them where there are statistics."""
    with new_database(server) as database:
        with psycopg.connect(database.owner, autocommit=True) as owner:
            for table in ("api_tokens", "aggregates", "stream_heads"):
                owner.execute(f"ALTER TABLE ledger.{table} SET (autovacuum_enabled = off)".encode())
        with psycopg.connect(database.app, autocommit=True) as connection:
            configure(connection, READING)
            if request.param == "of an empty table":
                for question in QUESTIONS:
                    explain(connection, question)
            if request.param == "of another day":
                fill(database, 100, at=AT - timedelta(days=400))
                analyze(database)
                with psycopg.connect(database.owner, autocommit=True) as owner:
                    owner.execute("TRUNCATE ledger.api_tokens, ledger.aggregates")
                    owner.execute("TRUNCATE ledger.stream_heads")
            fill(database, MANY if request.param == "none" else MANY // 3, at=AT)
            if request.param == "of today":
                analyze(database)
            connection.execute(FORGET_PLANS)  # as a pool does within a second
            yield connection


def analyze(database: Database) -> None:
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")


def asked(after: PageEnd | None = None, **more: Any) -> Mapping[str, Any]:
    at, id_ = (after.created_at, after.id) if after else (None, UUID(int=(1 << 128) - 1))
    return {"at": AT, "session": LIFETIME, "after_at": at, "after_id": id_, "limit": LIMIT, **more}


QUESTIONS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "newest": ("newest", asked()),
    "behind a place": ("newest", asked(MIDDLE)),
    "of a team": ("newest_of_teams", asked(teams=[TEAM])),
    "of a team, behind a place": ("newest_of_teams", asked(MIDDLE, teams=[TEAM])),
    "of many teams": ("newest_of_teams", asked(teams=[UUID(int=n) for n in range(TEAMS)])),
    "of no such team": ("newest_of_teams", asked(teams=[UUID(int=999)])),
    "oldest": ("oldest", {"after_at": None, "after_id": UUID(int=0), "limit": LIMIT}),
    "oldest behind a place": (
        "oldest",
        {"after_at": MIDDLE.created_at, "after_id": MIDDLE.id, "limit": LIMIT},
    ),
    "sessions": ("live_sessions", {"ids": [MANAGER], "at": AT, "limit": LIMIT}),
    "other managers": ("other_managers", {"id": MANAGER, "at": AT}),
}


def explain(connection: psycopg.Connection, question: str) -> dict[str, Any]:
    """What the database did for a question, by the plan for any parameters."""
    name, parameters = QUESTIONS[question]
    statement = listed_api_tokens._SQL[name]
    names = [each for each in parameters if f"%({each})s" in statement]
    values = [parameters[each] for each in names]
    numbered = statement % {each: f"${place}" for place, each in enumerate(names, start=1)}
    prepared = f"q{abs(hash(numbered))}"
    connection.execute(f"PREPARE {prepared} AS {numbered}".encode())
    given = psycopg.ClientCursor(connection).mogrify(", ".join(["%s"] * len(values)), values)
    ((plan,),) = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {prepared}({given})".encode()
    ).fetchall()
    connection.execute(f"DEALLOCATE {prepared}".encode())
    found: dict[str, Any] = plan[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan["Actual Loops"]:
        yield plan
        for child in plan.get("Plans", ()):
            yield from nodes(child)


def unsuitable(plan: dict[str, Any], *, times: int) -> list[str]:
    """What is wrong with a plan: it looks at more rows than it shows. times: how many pages'
    worth it may look at, one for each team that is walked by itself.
    """
    wrong = sorted({node["Node Type"] for node in nodes(plan)} & {"Seq Scan", "Bitmap Heap Scan"})
    for node in nodes(plan):
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        if "Relation Name" in node and node["Actual Loops"] * read > times * LIMIT:
            wrong.append(f"{read * node['Actual Loops']:.0f} rows of {node['Relation Name']}")
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return [*wrong, *([f"{blocks} blocks"] if blocks > max(1, times // 8) * BLOCKS else [])]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_list_is_read_along_an_index(many: psycopg.Connection, question: str) -> None:
    assert unsuitable(explain(many, question), times=TEAMS if "many" in question else 2) == []


def test_planted_a_list_of_all_that_is_filtered_afterwards_is_noticed(
    many: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = listed_api_tokens._SQL["newest"].replace(
        "t.is_session = kind.is_session", "(t.is_session = kind.is_session) IS TRUE"
    )
    monkeypatch.setattr(listed_api_tokens, "_SQL", {**listed_api_tokens._SQL, "newest": walked})
    assert unsuitable(explain(many, "newest"), times=2)

"""Whatever was decided of a token, what is asked of the present is answered as before, wherever the
archive ends; and what is asked of the past as by the events that the ledger still has.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.eventstore.archive import stretches as stretches_module
from domain.ledger import TokenLedger
from domain.postgres.read_pool import ReadPool
from domain.scim_token.token import ScimToken
from projections.ledger_check import check_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.matching import TokenMatches
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.secrets import SecretQueries
from projections.warnings.due import DueWarnings
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, catch_up, new_database
from tests.domain.scenario import MILLISECOND, MINUTE, T0
from tests.projections import test_any_life as any_life
from tests.projections.archive.archiving import archive
from tests.projections.archive.test_any_history import leaving
from tests.projections.history import Fact, given

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
AGES: Final = st.lists(st.integers(0, 30), min_size=1, max_size=2).map(sorted)
"""Hours behind the beginning that the runs go up to."""


def check(
    server: str, directory: Path, steps: Sequence[any_life.Step], ages: Sequence[int]
) -> None:
    history = any_life.lives(steps)
    with new_database(server) as database:
        given(database, *history)
        before = asyncio.run(asked(database, history))
        for age in ages:
            archive(database, directory, T0 + age * HOUR)
        gone = leaving(history, T0 + ages[-1] * HOUR)
        left = [fact for position, fact in enumerate(history, start=1) if position not in gone]
        catch_up(database)
        with psycopg.connect(database.app, autocommit=True) as app:
            checked = check_ledger(app)
            assert (checked.damage, checked.archived) == (None, len(gone))
            assert [check_view(app, each) for each in PROJECTIONS] == [None] * len(PROJECTIONS)
        asyncio.run(check_the_answers(database, history, left))
        assert asyncio.run(asked(database, history)) == before
        check_replays(database, history, left)


async def check_the_answers(
    database: Database, history: Sequence[Fact], left: Sequence[Fact]
) -> None:
    pool = ReadPool(database.app, timeout_s=10)
    last = history[-1][2]
    around = sorted(
        {at + step for at in {at for _, _, at in history} for step in (-MILLISECOND, 0 * HOUR)}
    )
    later = [last, *(last + step for step in (HOUR - MILLISECOND, HOUR, 2 * HOUR))]
    try:
        await any_life.check_the_past(AsOfQueries(pool), left, around[1:])
        await any_life.check_the_present(TokenQueries(pool), history, later)
        await any_life.check_the_filters(TokenQueries(pool), history, around)
        await any_life.check_the_secrets(SecretQueries(pool), history, later)
        await any_life.check_the_chosen(TokenMatches(pool), history, around)
    finally:
        await pool.close()


async def asked(database: Database, history: Sequence[Fact]) -> Mapping[str, Any]:
    """New addresses since each instant; and what is due once no rotation is under way any more."""
    pool = ReadPool(database.app, timeout_s=10)
    at = history[-1][2] + 100 * DAY
    found: dict[str, Any] = {}
    try:
        for since in sorted({at for _, _, at in history}):
            narrow = TokenFilter(status="all", new_source_since=since)
            page = await TokenQueries(pool).page(narrow, after=None, limit=9, at=at, ledger_head=0)
            found[str(since)] = page.documents
        for name, question in DueWarnings(pool).questions.items():
            due = await question(at, 0)
            found[name] = [(each.token_id, each.cause) for each in due.due]
    finally:
        await pool.close()
    return found


def check_replays(database: Database, history: Sequence[Fact], left: Sequence[Fact]) -> None:
    """Of each token, by each version and by each instant, through the library."""
    ledger = TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)
    try:
        for at in sorted({at for _, _, at in history}):
            for token in any_life.states(left, at):
                assert _told(ledger.replay(token.id, until=at)) == _told(token)
        for token in any_life.states(history, history[-1][2]):
            mine = [fact for fact in history if fact[0] == token.id]
            kept = {id(fact) for fact in left}
            for version in range(1, token.version + 1):
                there = [fact for fact in mine[:version] if id(fact) in kept]
                (expected,) = any_life.states(there, history[-1][2])
                assert _told(ledger.replay(token.id, version=version)) == _told(expected)
            whole = ledger.replay(token.id)
            assert (whole.version, whole.last_used_at) == (token.version, token.last_used_at)
    finally:
        ledger.close()


def _told(token: Any) -> Any:
    """All that a state says but its version, and how often it was used, which heads know."""
    assert isinstance(token, ScimToken)
    return msgspec.structs.replace(token, version=0, uses=0)


USED_LONG: Final = [any_life.Step(0, "use", 20 * MINUTE, 1)] * 9
ROTATED: Final = [
    *USED_LONG,
    any_life.Step(0, "rotate", MINUTE, 2),
    *[any_life.Step(0, "use", MINUTE, choice) for choice in (0, 1, 0, 1, 0, 1)],
    any_life.Step(0, "complete", MINUTE, 0),
    *USED_LONG,
]


@settings(max_examples=4)
@example(steps=USED_LONG, ages=[2], size=2)
@example(steps=ROTATED, ages=[4, 5], size=3)
@given_any(steps=any_life.STEPS, ages=AGES, size=st.integers(1, 20))
def test_the_present_is_answered_as_before(
    server: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[any_life.Step],
    ages: Sequence[int],
    size: int,
) -> None:
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches_module, "EVENTS", size)
        check(server, tmp_path_factory.mktemp("archive"), steps, ages)

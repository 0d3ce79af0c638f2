"""Whatever happened, and wherever the archive ends: what stays is what the present rests on, the
views are those of before, and nothing of the past is lost.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.archive.extended import ARCHIVE_ID
from domain.eventstore.archive import stretches as stretches_module
from domain.eventstore.repair import repair_states
from domain.ledger import TokenLedger
from domain.scim_token.events import Refused, Used
from projections.archive.check import check_archive
from projections.ledger_check import check_ledger
from projections.ledger_seal import check_seals, seal_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, catch_up, new_database
from tests.domain.scenario import MINUTE, T0
from tests.projections.archive.archiving import (
    HOUR,
    SOURCES,
    STEPS,
    TOKENS,
    Step,
    archive,
    facts,
)
from tests.projections.history import Fact, content, given
from tests.projections.test_ledger_seal import by_hand, rows_of

AGES: Final = st.lists(st.integers(0, 40), min_size=1, max_size=2).map(sorted)
"""Hours behind the beginning that the runs go up to."""


def leaving(history: Sequence[Fact], before: datetime) -> set[int]:
    """Positions of what leaves, told by hand: neither the first of its kind from an address nor the
    last by its secret.
    """
    firsts: dict[Any, int] = {}
    lasts: dict[Any, int] = {}
    old: set[int] = set()
    for position, (token, event, at) in enumerate(history, start=1):
        if at >= before:
            break
        if isinstance(event, Used | Refused):
            of_secret = (token, type(event), event.secret)
            firsts.setdefault((*of_secret, event.presentation.source), position)
            lasts[of_secret] = position
            old.add(position)
    return old - {*firsts.values()} - {*lasts.values()}


def positions(connection: psycopg.Connection) -> set[int]:
    return {position for position, *_ in rows_of(connection)}


def states(database: Database) -> Mapping[UUID, Any]:
    ledger = TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS)
    try:
        return {token: ledger.replay(token) for token in TOKENS}
    finally:
        ledger.close()


def check(server: str, directory: Path, steps: Sequence[Step], ages: Sequence[int]) -> None:
    history = facts(steps)
    with new_database(server) as database:
        given(database, *history)
        before = {each.name: content(database, each) for each in PROJECTIONS}
        folded = states(database)
        with psycopg.connect(database.owner, autocommit=True) as owner:
            stored = rows_of(owner)
            heads = owner.execute("SELECT * FROM ledger.stream_heads ORDER BY 1").fetchall()
        gone: set[int] = set()
        for age in ages:
            horizon = T0 + age * HOUR
            done = archive(database, directory, horizon)
            now_gone = leaving(history, horizon)
            assert done.removed == len(now_gone - gone)
            gone = now_gone
        catch_up(database)
        check_ledger_of(database, directory, stored, gone)
        for id_, replayed in states(database).items():
            assert (replayed.last_used_at, replayed.version) == (
                folded[id_].last_used_at,
                folded[id_].version,
            )
        check_views(database, before, gone)
        with psycopg.connect(database.owner) as owner:
            repair_states(owner, by="tests", reason="tests")
            now = owner.execute("SELECT * FROM ledger.stream_heads ORDER BY 1").fetchall()
            assert [row for row in now if row[0] != ARCHIVE_ID] == heads
        with psycopg.connect(database.app, autocommit=True) as app:
            assert check_ledger(app).damage is None


def check_ledger_of(
    database: Database, directory: Path, stored: Sequence[Any], gone: set[int]
) -> None:
    with psycopg.connect(database.app, autocommit=True) as app:
        now = rows_of(app)
        added = [row for row in now if row[1] == ARCHIVE_ID]
        assert [*now] == [row for row in stored if row[0] not in gone] + added
        checked = check_ledger(app)
        assert (checked.damage, checked.archived) == (None, len(gone))
        whole = [*stored, *added]
        seals = [by_hand(whole[:count]) for count in range(len(whole) + 1)]
        assert seal_ledger(app) == seals[-1]
        assert check_seals(app, seals) is None
        until = max((int(_until(row)) for row in added), default=0)
        assert check_archive(app, directory, [s for s in seals if s.position <= until]) is None


def _until(row: Sequence[Any]) -> int:
    return int(msgspec.json.decode(row[-1])["until"])


def check_views(database: Database, before: Mapping[str, Sequence[str]], gone: set[int]) -> None:
    now = {each.name: content(database, each) for each in PROJECTIONS}
    assert now["scim_tokens"] == before["scim_tokens"]
    assert now["token_sources"] == before["token_sources"]
    trail = {row.partition(",")[0].lstrip("(") for row in before["audit_trail"]}
    left = {row.partition(",")[0].lstrip("(") for row in now["audit_trail"]}
    assert trail - left == {str(position) for position in gone}
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert [check_view(connection, each) for each in PROJECTIONS] == [None] * len(PROJECTIONS)


def uses(later: timedelta, *counts: int) -> list[Step]:
    """Uses of one token from one address; by its second secret where the count is odd."""
    return [(0, "used", later, SOURCES[0], count) for count in counts]


ROTATED: Final[Step] = (0, "rotated", MINUTE, None, 1)


@settings(max_examples=5)
@example(steps=uses(MINUTE, *[2] * 8), ages=[1], size=3)  # some of one hour leave
@example(steps=uses(25 * MINUTE, *[2] * 9), ages=[3], size=1)  # a stretch ends with an hour
@example(steps=uses(HOUR, *[2] * 6), ages=[4], size=1)  # what is of the horizon stays
@example(steps=[*uses(MINUTE, 2, 2), ROTATED, *uses(MINUTE, 2, 2, 3, 3, 3)], ages=[1, 2], size=9)
@given_any(steps=STEPS, ages=AGES, size=st.integers(1, 12))
def test_what_the_present_rests_on_stays(
    server: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: Sequence[Step],
    ages: Sequence[int],
    size: int,
) -> None:
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches_module, "EVENTS", size)
        check(server, tmp_path_factory.mktemp("archive"), steps, ages)

"""Repairs of a ledger with an archive go by what has left, and by nothing else that is missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest

from domain.eventstore.archive.missing import EventsMissing
from domain.eventstore.archive.removal import remove
from domain.eventstore.repair import repair_states
from projections.archive import extending as extending_module
from projections.ledger_check import check_ledger
from projections.rebuild.steps import Interrupted
from tests.conftest import Database
from tests.domain.scenario import T0
from tests.projections.archive.archiving import HOUR, SOURCES, Step, archive, facts
from tests.projections.history import given

END: Final = T0 + 400 * HOUR
USED: Final[list[Step]] = [(0, "used", HOUR, SOURCES[0], 2)] * 6
REVOKED: Final[list[Step]] = [
    *USED,
    (0, "revoked", HOUR, None, 1),
    *[(0, "refused", HOUR, SOURCES[0], 2)] * 4,
]
LEFT: Final = 6
"""Neither the first and the last use, nor the first and the last refusal."""
GOOD: Final = "SELECT count(*) FROM ledger.secrets WHERE good_until > '-infinity'"


def repair(database: Database) -> int:
    with psycopg.connect(database.owner) as owner:
        return repair_states(owner, by="tests", reason="tests")


def test_a_revocation_that_is_missing_is_not_taken_for_a_use_that_has_left(
    database: Database, tmp_path: Path
) -> None:
    """The token was good again afterwards, and its secret with it."""
    given(database, *facts(REVOKED))
    assert archive(database, tmp_path, END).removed == LEFT
    with psycopg.connect(database.owner, autocommit=True) as owner:
        before = owner.execute(GOOD).fetchone()
        owner.execute("DELETE FROM ledger.events WHERE topic = 'scim_token.revoked.v1'")
        with pytest.raises(EventsMissing, match=r"^7 events are missing .* 6 have left"):
            repair(database)
        assert owner.execute(GOOD).fetchone() == before == (1,)


PUT_THERE: Final = """
    INSERT INTO ledger.events (
        notification_id, originator_id, originator_version, topic, at, command_id, state
    )
    SELECT 4, originator_id, 3, topic, at, command_id, convert_to(
        replace(convert_from(state, 'UTF8'), '192.0.2.1', '192.0.2.9'), 'UTF8'
    )
    FROM ledger.events WHERE notification_id = 3
"""


@pytest.mark.parametrize(
    ("damage", "missing", "left"),
    [("DELETE FROM ledger.events WHERE notification_id = 3", 5, 4), (PUT_THERE, 3, 4)],
    ids=["one is missing", "one is put there"],
)
def test_nothing_is_derived_from_more_or_fewer_events_than_stay(
    database: Database, tmp_path: Path, damage: LiteralString, missing: int, left: int
) -> None:
    given(database, *facts(USED))
    assert archive(database, tmp_path, END).removed == left
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(damage)
    with pytest.raises(EventsMissing, match=f"^{missing} events are missing .* {left} have left"):
        repair(database)


def test_no_event_is_missing_where_there_is_no_archive(database: Database) -> None:
    given(database, *facts(USED))
    assert repair(database) == 2
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("DELETE FROM ledger.events WHERE notification_id = 5")
    with pytest.raises(EventsMissing, match=r"^1 events are missing .* 0 have left"):
        repair(database)


def test_what_has_not_left_yet_is_not_missing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was cut off between two batches."""
    given(database, *facts(REVOKED))
    monkeypatch.setattr(extending_module, "batches", lambda every: [[each] for each in every])
    removed: list[int] = []

    def remove_some(owner: psycopg.Connection, positions: Sequence[int]) -> int:
        if len(removed) == LEFT // 2:
            raise Interrupted
        removed.extend(positions)
        return remove(owner, positions)

    with monkeypatch.context() as cut_off:
        cut_off.setattr(extending_module, "remove", remove_some)
        with pytest.raises(Interrupted):
            archive(database, tmp_path, END)
    assert repair(database) == 3
    assert archive(database, tmp_path, END).removed == LEFT - LEFT // 2
    assert repair(database) == 3
    with psycopg.connect(database.app, autocommit=True) as app:
        assert check_ledger(app).damage is None

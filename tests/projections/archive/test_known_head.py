"""A host that was away for long knows an event that has left: it is let in where the event can have
been one of this ledger, and not to another ledger, nor to one that went on from an older state.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any

from domain.errors import EventsLost
from domain.eventstore.known_head.requirement import require_known
from domain.losses.declared import KnownEvent
from tests.conftest import Database, new_database
from tests.domain.scenario import COMMAND_ID, T0
from tests.projections.archive.archiving import HOUR, SOURCES, STEPS, Step, archive, facts
from tests.projections.archive.test_any_history import leaving
from tests.projections.history import Fact, given

END: Final = T0 + 2_000 * HOUR
ELSEWHERE: Final = UUID(int=7)


def known_events(history: Sequence[Fact]) -> list[KnownEvent]:
    """Each event of a history, as a head file names it."""
    versions: dict[UUID, int] = {}
    found = []
    for position, (id_, _, _) in enumerate(history, start=1):
        versions[id_] = versions.get(id_, 0) + 1
        found.append(KnownEvent(position, id_, versions[id_], COMMAND_ID))
    return found


def is_let_in(database: Database, known: KnownEvent) -> bool:
    with psycopg.connect(database.app, autocommit=True) as connection:
        try:
            require_known(connection, known)
        except EventsLost:
            return False
    return True


def uses(*tokens: int) -> list[Step]:
    return [(token, "used", HOUR, SOURCES[0], 2) for token in tokens]


@settings(max_examples=8)
@example(steps=uses(0, 0, 0, 1, 0, 1, 1, 1), other=uses(1, 1, 1, 0, 1, 0, 0, 0))
@example(steps=uses(*[0] * 9), other=uses(*[1] * 9))
@given_any(steps=STEPS, other=STEPS)
def test_what_has_left_is_known_and_what_was_never_there_is_not(
    server: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[Step],
    other: list[Step],
) -> None:
    """other: what the ledger had recorded instead, before an older state was restored."""
    history, lost = facts(steps), facts(other)
    gone = leaving(history, END)
    versions = {(each.originator_id, each.originator_version) for each in known_events(history)}
    with new_database(server) as database:
        given(database, *history)
        archive(database, tmp_path_factory.mktemp("archive"), END)
        for known in known_events(history):
            assert is_let_in(database, known), known
            foreign = msgspec.structs.replace(known, originator_id=ELSEWHERE)
            assert not is_let_in(database, foreign), foreign
        for known in known_events(lost)[2:]:  # both begin with the same two tokens
            if not is_let_in(database, known):
                continue
            assert known in known_events(history) or known.position in gone
            assert (known.originator_id, known.originator_version) in versions


def test_a_host_of_another_ledger_is_not_let_in_because_this_one_has_an_archive(
    database: Database, tmp_path: Path
) -> None:
    given(database, *facts(uses(*[0] * 12)))
    archive(database, tmp_path, END)
    gone = leaving(facts(uses(*[0] * 12)), END)
    assert len(gone) == 10
    for position in sorted(gone):
        assert is_let_in(database, KnownEvent(position, UUID(int=1), position - 1, COMMAND_ID))
        for id_, version in ((ELSEWHERE, position - 1), (UUID(int=2), 1), (UUID(int=1), position)):
            known = KnownEvent(position, id_, version, COMMAND_ID)
            assert not is_let_in(database, known), known

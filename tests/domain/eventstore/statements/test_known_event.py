"""Which events a host may have known: those that are there, and those whose loss was declared."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg
import pytest

from domain.archive.extended import ARCHIVE_ID
from domain.losses.declared import LOSSES_ID
from tests.conftest import new_database
from tests.domain.scenario import T0


class Event(NamedTuple):
    position: int
    originator_id: UUID
    originator_version: int
    command_id: UUID


THERE: Final = [Event(at, UUID(int=at), at, UUID(int=100 + at)) for at in (1, 2, 3, 7, 8)]
GAPS: Final = [(4, 5), (6, 7)]
"""After which position, until which: in the second an event is there again."""
LOST: Final = Event(2, UUID(int=9), 9, UUID(int=109))
"""What the host that declared the loss had known: another event is there by now."""
DECLARED: Final = [Event(8 + at, LOSSES_ID, at, UUID(int=108 + at)) for at in (1, 2)]
NEWEST: Final = DECLARED[-1]
NAMED: Final = (THERE[1], THERE[4], LOST, NEWEST)
KNOWN: Final = [
    Event._make(fields)
    for fields in product(
        range(1, 13), *({event[place] for event in NAMED} for place in range(1, len(NEWEST)))
    )
]


def is_known(known: Event) -> bool:
    there = {event.position for event in (*THERE, *DECLARED)}
    is_lost = any(after < known.position <= until for after, until in GAPS)
    return known in {*THERE, *DECLARED, LOST} or (is_lost and known.position not in there)


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    losses = [
        msgspec.json.encode({"known": LOST._asdict(), "after": after, "until": until})
        for after, until in GAPS
    ]
    states = [*(b"{}" for _ in THERE), *losses]
    with (
        new_database(server) as database,
        psycopg.connect(database.owner, autocommit=True) as connection,
    ):
        for event, state in zip((*THERE, *DECLARED), states, strict=True):
            put(connection, event, state)
        yield connection


def put(connection: psycopg.Connection[Any], event: Event, state: bytes) -> None:
    connection.execute(
        "INSERT INTO ledger.events (notification_id, originator_id, originator_version,"
        " command_id, topic, at, state) VALUES (%s, %s, %s, %s, 'any', %s, %s)",
        [*event, T0, state],
    )


def said(connection: psycopg.Connection[Any], known: Event) -> str:
    try:
        with connection.transaction():
            connection.execute("SELECT ledger.require_known(%s, %s, %s, %s)", known)
    except psycopg.Error as error:
        return f"{error.sqlstate}: {error}"
    return ""


def test_an_event_is_known_if_it_is_there_in_all_that_names_it_or_was_declared_lost(
    owner: psycopg.Connection[Any],
) -> None:
    for known in KNOWN:
        says = said(owner, known)
        if is_known(known):
            assert says == "", known
        elif known.position > NEWEST.position:
            assert says.startswith("SL003: the ledger ends with event 10 of"), known
        else:
            assert says.startswith(f"SL003: event {known.position} of the ledger is not"), known


LATER: Final = [
    Event(15, THERE[0].originator_id, 6, UUID(int=115)),
    Event(16, THERE[1].originator_id, 12, UUID(int=116)),
]
"""Of the same streams as some that are there: what is between them has left."""
LEFT: Final = [
    Event(position, event.originator_id, version, event.command_id)
    for position, event, version in product(range(1, 17), (*THERE[:2], LOST), range(1, 13))
]


def fits_a_gap(known: Event, there: list[Event]) -> bool:
    """Whether its stream has an event before it and one behind it, with room for all between."""
    stream = sorted(event for event in there if event.originator_id == known.originator_id)
    versions = [event.originator_version for event in stream]
    if known.originator_version in versions:
        return False
    before = [event for event in stream if event.originator_version < known.originator_version]
    behind = [event for event in stream if event.originator_version > known.originator_version]
    return bool(before and behind) and all(
        later.position - sooner.position >= later.originator_version - sooner.originator_version
        for sooner, later in ((before[-1], known), (known, behind[0]))
    )


@pytest.mark.parametrize("until", [1, 3, 4, 6, 12])
def test_one_that_is_not_there_may_have_left_as_far_as_the_archive_reaches(
    owner: psycopg.Connection[Any], until: int
) -> None:
    """Where it fits into a gap of its stream; of other streams nothing has left."""
    extended = [Event(12 + at, ARCHIVE_ID, at, UUID(int=112 + at)) for at in (1, 2)]
    there = [*THERE, *DECLARED, *extended, *LATER]
    positions = {event.position for event in there}
    with owner.transaction(force_rollback=True):
        for event, reaches in zip(extended, (1, until), strict=True):
            put(owner, event, msgspec.json.encode({"until": reaches}))
        for event in LATER:
            put(owner, event, b"{}")
        left = 0
        for known in (*KNOWN, *LEFT, *extended, *LATER):
            is_away = known.position not in positions and known.position <= until
            may_have_left = is_away and fits_a_gap(known, there)
            is_right = is_known(known) or known in {*extended, *LATER} or may_have_left
            assert (said(owner, known) == "") == is_right, known
            left += may_have_left and not is_known(known)
    assert (left > 0) == (until >= 4)

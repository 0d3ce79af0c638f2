"""Commands on one token that are stored together: each secret's row stands as each event left it,
not only as the last one did.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.utils import Environment
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.authority import Operator, scim_token_of
from domain.commands import NewScimToken
from domain.errors import Refusal
from domain.event import Actor, Changes, Event, States
from domain.eventstore.command_batch import Command, Outcome
from domain.eventstore.library.factory import LedgerFactory
from domain.ledger import TokenLedger
from domain.scim_token import changes, rotation
from domain.scim_token.token import ScimToken
from domain.secret import SecretKind, mint
from projections.ledger_check import check_ledger
from tests.conftest import PEPPER, Database, new_database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0

MINUTE: Final = timedelta(minutes=1)
ADA: Final = Actor(user_id=uuid4(), api_token_id=None)
Decision: TypeAlias = Callable[[ScimToken, datetime], Sequence[Event]]


def _rotate(token: ScimToken, at: datetime, overlap: timedelta) -> Sequence[Event]:
    digest = PEPPER.digest(mint(SecretKind.SCIM_LIVE, uuid4().bytes * 2))
    return rotation.rotate(token, digest=digest, overlap=overlap, rotated_by=ADA, at=at)


DECISIONS: Final[Mapping[str, Decision]] = {
    "rotate": lambda token, at: _rotate(token, at, 3 * MINUTE),
    "rotate without an overlap": lambda token, at: _rotate(token, at, timedelta(0)),
    "complete": lambda token, at: rotation.complete(token, completed_by=ADA, at=at),
    "cancel": lambda token, at: rotation.cancel(token, cancelled_by=ADA, at=at),
    "suspend": lambda token, _: changes.suspend(token, by=ADA, reason=None),
    "resume": lambda token, _: changes.resume(token, by=ADA, reason=None),
    "end": lambda token, at: changes.change(
        token, expires_at=at + 10 * MINUTE, by=ADA, reason=None, at=at
    ),
    "no end": lambda token, at: changes.change(token, expires_at=None, by=ADA, reason=None, at=at),
}


def command(token_id: UUID, decision: Decision) -> Command:
    def decide(states: States, at: datetime) -> Changes:
        return [(token_id, decision(scim_token_of(states, token_id), at))]

    return Command(uuid4(), uuid4(), token_id, frozenset({token_id}), b"", decide)


def assert_sound(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None
    assert_consistent(database)


async def execute(
    ledger: TokenLedger, token_id: UUID, names: Sequence[str]
) -> list[Outcome | BaseException]:
    """In one commit, in this order."""
    commands = [command(token_id, DECISIONS[name]) for name in names]
    outcomes = await asyncio.gather(*map(ledger.gate.execute, commands), return_exceptions=True)
    assert ledger.gate.batch_sizes[-1] == len(commands)
    assert all(isinstance(outcome, Outcome | Refusal) for outcome in outcomes)
    return outcomes


def copy_at_once(source: Database, target: Database) -> None:
    """Every event of a ledger by one append of the library's recorder."""
    factories = [
        LedgerFactory(Environment(env={LedgerFactory.CONNINFO: believing_any_clock(database)}))
        for database in (source, target)
    ]
    reader, writer = (factory.application_recorder() for factory in factories)
    try:
        (stream,) = {event.originator_id for event in reader.select_notifications(None, 1_000)}
        writer.insert_events(reader.select_events(stream))
    finally:
        for factory in factories:
            factory.close()


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from([MINUTE, 2 * MINUTE, 5 * MINUTE]),
            st.lists(st.sampled_from(sorted(DECISIONS)), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
@example(batches=[(MINUTE, ["rotate"]), (MINUTE, ["suspend"]), (5 * MINUTE, ["resume", "rotate"])])
def test_whatever_is_stored_together_the_ledger_is_sound(
    server: str, batches: list[tuple[timedelta, list[str]]]
) -> None:
    async def main(database: Database) -> None:
        clock = HandClock(T0)
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            token, _ = await ledger.create_scim_token(
                NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
            )
            for pause, names in batches:
                clock.advance(pause)
                await execute(ledger, token.id, names)

    with new_database(server) as database, new_database(server) as copy:
        asyncio.run(main(database))
        assert_sound(database)
        copy_at_once(database, copy)
        assert_sound(copy)

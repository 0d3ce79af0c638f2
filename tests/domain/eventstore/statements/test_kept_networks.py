"""A process of the release before, which knows of no networks, changes a token that has some: it
lets in nobody else, and leaves what this release would have left.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from msgspec.structs import replace

from domain.authority import Operator
from domain.commands import NewScimToken, ScimTokenChange
from domain.errors import Refusal
from domain.event import Aggregate
from domain.eventstore import append, gate
from domain.eventstore.aggregates import decode_states, encode_state
from domain.eventstore.uses import Presented
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.scim_token.token import ScimToken
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.eventstore.test_use_contract import rekey_all
from tests.domain.scenario import T0
from tests.turns import by_turns

NETWORKS: Final = ("192.0.2.0/24", "2001:db8::/32")
INSIDE: Final = Presentation(door="scim", source="192.0.2.7")
OUTSIDE: Final = replace(INSIDE, source="198.51.100.7")
NOWHERE: Final = replace(INSIDE, source=None)
HOUR: Final = timedelta(hours=1)
BY: Final = Operator(uuid4())
NAME: Final = 'Okta "networks":["0.0.0.0/0"] “é” \\"networks\\":['
"""It stands in each state before them."""
SINCE_NETWORKS: Final = (
    ("good_until, networks)", "good_until)"),
    ("END,\n        networks::inet[]", "END"),
    (", %s::text[])\n        AS p (digest", ")\n        AS p (digest"),
    ("is_void, networks)", "is_void)"),
    (", networks = excluded.networks", ""),
)
"""What the statement has that stores, and what it had."""
Command = Callable[[TokenLedger, UUID], Awaitable[object]]


async def digest_anew(ledger: TokenLedger, token_id: UUID) -> None:
    """Whatever is held under the first key."""
    token = await ledger.scim_token(token_id)
    held = [each.digest for each in token.secrets if each.digest.key_generation == 1]
    await rekey_all(ledger, token_id, [digest.value for digest in held])


COMMANDS: Final[Mapping[str, Command]] = {
    "rename": lambda ledger, id_: ledger.change_scim_token(id_, ScimTokenChange("Entra"), by=BY),
    "rotate": lambda ledger, id_: ledger.rotate_scim_token(id_, overlap=9 * HOUR, by=BY),
    "rotate at once": lambda ledger, id_: ledger.rotate_scim_token(
        id_, overlap=timedelta(0), by=BY
    ),
    "complete": lambda ledger, id_: ledger.complete_rotation(id_, by=BY),
    "cancel": lambda ledger, id_: ledger.cancel_rotation(id_, by=BY),
    "suspend": lambda ledger, id_: ledger.suspend_scim_token(id_, by=BY),
    "resume": lambda ledger, id_: ledger.resume_scim_token(id_, by=BY),
    "digest anew": digest_anew,
    "revoke": lambda ledger, id_: ledger.revoke_scim_token(id_, by=BY),
}


def becomes_older(patch: pytest.MonkeyPatch) -> None:
    """What this process decides from now on, it decides and stores as the release before."""
    columns, store = append.columns, str(append.STORE)
    for now, before in SINCE_NETWORKS:
        assert store.count(now) == 1, now
        store = store.replace(now, before)

    def decoded(rows: Iterable[Sequence[Any]]) -> dict[UUID, Aggregate]:
        return {
            id_: replace(state, networks=()) if isinstance(state, ScimToken) else state
            for id_, state in decode_states(rows).items()
        }

    def encoded(aggregate: Aggregate) -> bytes:
        return re.sub(rb',"networks":\[[^]]*\]}\Z', b"}", encode_state(aggregate))

    patch.setattr(gate, "decode_states", decoded)
    patch.setattr(append, "encode_state", encoded)
    patch.setattr(append, "STORE", store)
    patch.setattr(append, "columns", lambda *given: columns(*given)[:-1])


async def make(ledger: TokenLedger, clock: HandClock, networks: Sequence[str]) -> UUID:
    """A token one of whose secrets has ended before it was restricted, if it is."""
    token, _ = await ledger.create_scim_token(NewScimToken(uuid4(), NAME), by=BY)
    clock.advance(HOUR)
    await ledger.rotate_scim_token(token.id, overlap=timedelta(0), by=BY)
    if networks:
        await ledger.allow_networks(token.id, networks, by=BY)
    return token.id


async def carry_out(ledger: TokenLedger, commands: Iterable[tuple[UUID, str]]) -> None:
    """All together; what is refused did not happen."""

    async def one(id_: UUID, what: str) -> None:
        with suppress(Refusal):
            await COMMANDS[what](ledger, id_)

    await asyncio.gather(*(one(*command) for command in commands))


def secrets(database: Database) -> list[tuple[UUID, bytes]]:
    """All that there are, with their tokens."""
    with psycopg.connect(database.app) as app:
        return app.execute("SELECT originator_id, digest FROM ledger.secrets").fetchall()


def states(database: Database) -> list[tuple[UUID, bytes]]:
    """As they are stored."""
    with psycopg.connect(database.app) as app:
        return app.execute("SELECT originator_id, state FROM ledger.aggregates").fetchall()


async def assert_decided_by_the_rule(ledger: TokenLedger, database: Database, at: datetime) -> None:
    """Each secret, presented from inside, from outside and from an address that is not known."""
    for (id_, digest), way in product(secrets(database), (INSIDE, OUTSIDE, NOWHERE)):
        token = await ledger.scim_token(id_)
        decision = await ledger.gate.uses.present(Presented([digest], way, at))
        assert decision is not None
        is_good = token.refusal_of(digest, way, at=at) is None
        assert (decision.use_id is not None) == is_good, (token, way)


async def play(database: Database) -> None:
    """Each command of the release before, and each two of them on tokens with networks."""
    clock = HandClock(T0)
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        lives = [
            (await make(ledger, clock, networks), steps)
            for networks, number in ((NETWORKS, 2), ((), 1))
            for steps in product(COMMANDS, repeat=number)
        ]
        restricted = {id_ for id_, steps in lives if len(steps) == 2}
        with pytest.MonkeyPatch.context() as patch:
            becomes_older(patch)
            for number in range(2):
                clock.advance(HOUR)
                await carry_out(
                    ledger, [(id_, step) for id_, steps in lives for step in steps[number:][:1]]
                )
        for id_, state in states(database):
            token = await ledger.scim_token(id_)
            assert token.networks == (NETWORKS if id_ in restricted else ())
            if id_ in restricted:
                assert encode_state(msgspec.json.decode(state, type=ScimToken)) == state
        assert_consistent(database)
        clock.advance(HOUR)
        await assert_decided_by_the_rule(ledger, database, clock.now)
        await carry_out(ledger, ((id_, "rotate") for id_, _ in lives))
        assert_consistent(database)


def test_what_it_changes_stays_restricted_and_is_stored_as_by_this_release(
    database: Database, run: Run
) -> None:
    run(play(database))


@pytest.mark.parametrize(
    ("right", "wrong"),
    by_turns(
        [
            ("networks IS NULL", "false"),
            ("IN OLD.state) = 0", "IN OLD.state) > 0"),
            ("|| kept\n", "|| '\"networks\":[]}'\n"),
            ("|| ','::bytea", "|| ', '::bytea"),
        ],
        one_of=4,
    ),
)
def test_networks_that_are_not_kept_are_found(
    database: Database, run: Run, right: str, wrong: str
) -> None:
    with psycopg.connect(database.owner) as owner:
        ((definition,),) = owner.execute(
            "SELECT pg_get_functiondef('ledger.keep_networks'::regproc)"
        ).fetchall()
        assert definition.count(right) == 1
        owner.execute(definition.replace(right, wrong))
    with pytest.raises(AssertionError):
        run(play(database))

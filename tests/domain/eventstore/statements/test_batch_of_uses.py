"""A batch of uses of any tokens, in any state, by any presentations: each is decided and recorded
as if it were alone.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import TokenRefused
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.uses import Decision, Presented
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation, Used
from domain.scim_token.token import ScimToken
from domain.secret import SecretId, SecretKind, mint
from tests.conftest import PEPPER, Database, Run, new_database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.eventstore.test_use_contract import anew, rekey_all
from tests.domain.scenario import T0
from tests.turns import by_turns

OFFICE: Final = "192.0.2.0/24"
WAYS: Final = tuple(
    Presentation(door=door, source=source)
    for door, source in (
        *(("scim", "192.0.2.7"), ("scim", "198.51.100.7"), ("nginx", "192.0.2.255")),
        *(("scim", None), ("introspection", "2001:db8::7")),
    )
)
LIFETIME, OVERLAP, STEP = timedelta(hours=4), timedelta(hours=8), timedelta(hours=1)
STATES: Final = (
    *("good", "expires", "rekeyed", "rotated", "rotated and rekeyed"),
    *("revoked", "suspended", "restricted", "restricted, rotated and rekeyed"),
    *("restricted and suspended", "restricted for a while"),
)
BATCHES: Final = 16
USES_MAX: Final = 12


class Known(NamedTuple):
    """A secret: as its token was made with it, and as it may be asked for, the newest key first."""

    token_id: UUID
    candidates: tuple[bytes, bytes]


async def make(ledger: TokenLedger, state: str) -> Iterator[Known]:
    """A token in a state; its secrets."""
    by = Operator(uuid4())
    ends = T0 + LIFETIME if state == "expires" else None
    token, secret = await ledger.create_scim_token(NewScimToken(uuid4(), state, ends), by=by)
    digests = [PEPPER.digest(secret).value]
    if "restricted" in state:
        await ledger.allow_networks(token.id, [OFFICE], by=by)
    if "rotated" in state:
        token, secret = await ledger.rotate_scim_token(token.id, overlap=OVERLAP, by=by)
        digests.append(PEPPER.digest(secret).value)
    if "rekeyed" in state:
        await rekey_all(ledger, token.id, [*digests])
    if state == "revoked":
        await ledger.revoke_scim_token(token.id, by=by)
    if state == "restricted for a while":
        await ledger.allow_any_network(token.id, by=by)
    if "suspended" in state:
        await ledger.suspend_scim_token(token.id, by=by)
    return (Known(token.id, (anew(each).value, each)) for each in digests)


def outcome(
    token: ScimToken, known: Known, way: Presentation, count: int, at: datetime
) -> Used | TokenRefused:
    """What the rule records, or why it refuses."""
    digest = token.held_as(known.candidates)
    try:
        (used,) = token.use(digest, presentation=way, count=count, first_at=at, at=at)
    except TokenRefused as refusal:
        return refusal
    assert isinstance(used, Used)
    return used


def uses_after(database: Database, position: int) -> dict[UUID, tuple[UUID, Used]]:
    """The uses that stand behind a position, by their id, with their token."""
    with psycopg.connect(database.owner) as owner:
        rows = owner.execute(
            "SELECT command_id, originator_id, topic, state FROM ledger.events"
            " WHERE notification_id > %s",
            [position],
        ).fetchall()
    decoded = {id_: (token, REGISTRY.decode(topic, state)) for id_, token, topic, state in rows}
    return {id_: (token, use) for id_, (token, use) in decoded.items() if isinstance(use, Used)}


def newest(database: Database) -> int:
    with psycopg.connect(database.owner) as owner:
        found = owner.execute("SELECT max(notification_id) FROM ledger.events").fetchone()
    assert found is not None
    return int(found[0])


async def compare(
    ledger: TokenLedger,
    database: Database,
    batch: list[tuple[Known, Presentation]],
    tokens: dict[UUID, ScimToken],
    at: datetime,
) -> None:
    """Present a batch at once; each answer, and the events, are what the rule says."""
    before = newest(database)
    decisions = await asyncio.gather(
        *(ledger.gate.uses.present(Presented(known.candidates, way, at)) for known, way in batch)
    )
    recorded = uses_after(database, before)
    counts = Counter(batch)
    answered: dict[tuple[Known, Presentation], Decision | None] = {}
    for ask, decision in zip(batch, decisions, strict=True):
        assert answered.setdefault(ask, decision) == decision, "they share one use"
    for (known, way), decision in answered.items():
        if known.token_id not in tokens:
            assert decision is None
            continue
        assert decision is not None
        token = tokens[known.token_id]
        assert (decision.token_id, decision.team_id, decision.at) == (token.id, token.team_id, at)
        rule = outcome(token, known, way, counts[known, way], at)
        if isinstance(rule, Used):
            assert decision.use_id is not None
            assert recorded.pop(decision.use_id) == (token.id, rule)
        else:
            assert (decision.use_id, decision.is_void) == (None, rule.reason == "revoked")
    assert not recorded, "nobody was told of them"


@pytest.mark.parametrize("seed", by_turns(range(4), one_of=4))
def test_each_use_of_a_batch_is_decided_and_recorded_as_if_alone(
    database: Database, run: Run, seed: int
) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        clock = HandClock(T0)
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            secrets = [known for state in STATES for known in await make(ledger, state)]
            tokens = {known.token_id: await ledger.scim_token(known.token_id) for known in secrets}
            stranger = PEPPER.digest(mint(SecretKind.SCIM_LIVE, bytes(32))).value
            secrets.append(Known(uuid4(), (anew(stranger).value, stranger)))
            for _ in range(BATCHES):
                clock.advance(STEP)
                some = chance.sample(secrets, chance.randint(1, len(secrets)))
                ways = chance.sample(WAYS, chance.randint(1, len(WAYS)))
                batch = [
                    (chance.choice(some), chance.choice(ways))
                    for _ in range(chance.randint(1, USES_MAX))
                ]
                await compare(ledger, database, batch, tokens, clock.now)

    run(main())
    assert_consistent(database)


TEXTS: Final = st.none() | st.text(max_size=40)
IDS: Final = st.none() | st.text("0123456789abcdef", min_size=8, max_size=8)
"""Of secrets; events of earlier releases tell of none."""
PRESENTATIONS: Final = st.builds(
    Presentation,
    door=st.sampled_from(["scim", "nginx"]),
    source=TEXTS,
    user_agent=TEXTS,
    note=TEXTS,
)


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


@settings(max_examples=15)
@given(
    uses=st.lists(
        st.builds(Used, st.integers(1), st.just(T0), PRESENTATIONS, IDS), min_size=1, max_size=4
    ),
    shown_as=IDS,
)
def test_a_use_tells_the_id_that_its_secret_was_shown_with_and_nothing_else_changes(
    owner: psycopg.Connection[Any], uses: list[Used], shown_as: SecretId | None
) -> None:
    named = owner.execute(
        "SELECT ledger.named_use(state, %s)"
        " FROM unnest(%s::bytea[]) WITH ORDINALITY AS p (state, ord) ORDER BY ord",
        [shown_as, [REGISTRY.encode(use) for use in uses]],
    ).fetchall()
    assert [REGISTRY.decode(Used.topic, state) for (state,) in named] == [
        use
        if use.secret is None or shown_as is None
        else msgspec.structs.replace(use, secret=shown_as)
        for use in uses
    ]

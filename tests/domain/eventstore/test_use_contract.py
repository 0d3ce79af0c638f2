"""The statement that records uses and the rule `ScimToken.use` agree for every state and every
instant.

Every history of a token within bounds is played: with and without an expiry, with up to two
rotations of each kind of overlap, revoked or not, digested anew or not, good from anywhere or from
some networks for a while. Then each of its secrets, and an unknown one, is presented right before,
exactly at and right after each instant at which something changes; from addresses of both kinds
where there are networks.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import product
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator, scim_token_of
from domain.commands import NewScimToken, ScimTokenChange
from domain.errors import NoRotationUnderway, StoreUnavailable, TokenRefused
from domain.event import Changes, Event, Recorded, States
from domain.eventstore.aggregates import decode_state
from domain.eventstore.append import LOAD
from domain.eventstore.command_batch import Command
from domain.eventstore.uses import Presented
from domain.ledger import TokenLedger
from domain.scim_token import rotation
from domain.scim_token.events import Presentation, Used
from domain.scim_token.fold import evolve
from domain.scim_token.rekeying import rekey
from domain.scim_token.rotation import FinishRule, SecretsInUse
from domain.scim_token.token import ScimToken
from domain.secret import Digest, SecretKind, mint
from tests.conftest import PEPPER, Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import MILLISECOND, T0
from tests.turns import by_turns

MINUTE: Final = timedelta(minutes=1)
BEHIND: Final = timedelta(hours=1)
ROTATIONS_AT: Final = (5 * MINUTE, 10 * MINUTE)
IDP: Final = Presentation(door="scim")
GATEWAY: Final = Presentation(door="nginx")
OFFICE, CLOUD, PARTNER = "192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"
SOURCES: Final = ("192.0.2.7", "198.51.100.7", "203.0.113.7", "2001:db8::7", "2001:db9::7", None)
"""One in each of the networks, and others."""
FROM_ANYWHERE: Final = tuple(Presentation(door="scim", source=source) for source in SOURCES)
UNKNOWN: Final = PEPPER.digest(mint(SecretKind.SCIM_LIVE, bytes(32))).value


class History(NamedTuple):
    """What happened to a token, in minutes after its creation.

    expires: None for never. overlaps: of the rotations after 5 and 10 minutes. revoked: None for
    not. suspended: from and to, None for not. rekeyed: when the secrets that are good are digested
    anew, None for not. ended: how a rotation was, 12 minutes after the beginning; None for not.
    moved: when its end is changed, and to when (None for no end); None for not. allowed: when
    which networks are set, none of them for any.
    """

    expires: int | None
    overlaps: tuple[int, ...]
    revoked: int | None
    suspended: tuple[int, int] | None = None
    rekeyed: int | None = None
    ended: str | None = None
    moved: tuple[int, int | None] | None = None
    allowed: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def instants(self) -> Iterator[int]:
        """When something changes."""
        yield from (5, 10)
        yield from (at + overlap for at, overlap in zip((5, 10), self.overlaps, strict=False))
        yield from (minute for minute in (self.expires, self.revoked, self.rekeyed) if minute)
        yield from self.suspended or ()
        yield from (12,) if self.ended else ()
        yield from (minute for minute in self.moved or () if minute is not None)
        yield from (minute for minute, _ in self.allowed)

    def ways(self) -> Sequence[Presentation]:
        """How each secret is presented together."""
        if self.allowed:
            return (*FROM_ANYWHERE, *FROM_ANYWHERE[:2])
        return (IDP, GATEWAY, IDP) if self.overlaps else (IDP, IDP)


_NOT_REKEYED: Final = [
    History(expires, overlaps, revoked, suspended)
    for expires, overlaps, revoked, suspended in product(
        (None, 12, 20),
        ((), (0,), (7,), (30,), (30, 0), (3, 7), (4, 0)),
        (None, 15),
        (None, (4, 14), (13, 40)),
    )
]
HISTORIES: Final = [
    *_NOT_REKEYED,
    *(
        history._replace(rekeyed=rekeyed)
        for history, rekeyed in product(_NOT_REKEYED, (1, 6, 11))
        if history.revoked is None and (history.suspended is None or rekeyed == 1)
    ),
    *(
        history._replace(ended=ended, rekeyed=rekeyed)
        for history, ended, rekeyed in product(
            _NOT_REKEYED, ("completed", "cancelled", "finished"), (None, 6, 11)
        )
        if history.overlaps in {(7,), (30,), (3, 7)} and history.suspended != (13, 40)
    ),
    *(
        history._replace(moved=moved)
        for history, moved in product(_NOT_REKEYED, ((3, 8), (3, None), (11, 30)))
        if history.revoked is None and history.overlaps in {(), (7,), (30,)}
    ),
]
ALLOWED: Final = [
    ((3, (OFFICE,)),),
    ((3, (OFFICE, CLOUD)), (8, (PARTNER,))),
    ((6, (CLOUD,)), (11, ())),
    ((5, (OFFICE,)), (10, (PARTNER,)), (14, ())),
]
RESTRICTED: Final = [
    history._replace(allowed=allowed, rekeyed=rekeyed, ended=ended)
    for history, allowed, rekeyed, ended in product(
        _NOT_REKEYED, ALLOWED, (None, 6, 11), (None, "completed", "cancelled")
    )
    if history.expires != 20
    and history.suspended != (13, 40)
    and history.overlaps in {(), (30,), (3, 7)}
    and (history.overlaps == (30,) or (rekeyed, ended) == (None, None))
    and (history.suspended is None or rekeyed is None)
    and (history.expires is None or ended is None)
]


class Disagreement(AssertionError):
    """The statement and the rule differ."""


def pure(
    token: ScimToken, digests: Sequence[bytes], ways: Sequence[Presentation], at: datetime
) -> tuple[Mapping[tuple[Presentation, bytes], str | None], ScimToken]:
    """What the rule says of secrets that are presented together, and the state after.

    Each is presented in every one of `ways`: equal ones merge, others are an event each.
    A verdict is "good", "over", or None for unknown.
    """
    verdicts: dict[tuple[Presentation, bytes], str | None] = {}
    for (way, count), digest in product(Counter(ways).items(), digests):
        try:
            (event,) = token.use(digest, presentation=way, count=count, first_at=at, at=at)
        except TokenRefused as refusal:
            verdicts[way, digest] = None if refusal.reason == "unknown" else "over"
            continue
        assert isinstance(event, Used)
        verdicts[way, digest] = "good"
        token = evolve(token, Recorded(token.id, token.version + 1, at, uuid4(), event))
    return verdicts, token


def anew(digest: bytes) -> Digest:
    """What stands for the digest of the same secret under the next key."""
    return Digest(sha256(digest).digest(), 2)


async def rekey_all(ledger: TokenLedger, token_id: UUID, digests: list[bytes]) -> list[bytes]:
    """Digest anew whatever may be; returns the digests that are no longer held."""

    def decide(states: States, at: datetime) -> Changes:
        token = scim_token_of(states, token_id)
        events = [event for each in digests for event in rekey(token, each, anew=anew(each), at=at)]
        return [(token_id, events)]

    await ledger.gate.execute(
        Command(uuid4(), uuid4(), token_id, frozenset({token_id}), b"", decide)
    )
    held = {held.digest.value for held in (await ledger.scim_token(token_id)).secrets}
    former = [each for each in digests if anew(each).value in held]
    digests[:] = [anew(each).value if each in former else each for each in digests]
    return former


async def stored(ledger: TokenLedger, token: ScimToken) -> ScimToken:
    """The state row and its head."""
    async with ledger.reads.connection() as connection:
        rows = await (await connection.execute(LOAD, [[token.id]])).fetchall()
    ((_, kind, state, version, last_used_at, uses),) = rows
    found = decode_state(kind, state, version=version, last_used_at=last_used_at, uses=uses)
    assert isinstance(found, ScimToken)
    return found


async def change(
    ledger: TokenLedger, clock: HandClock, token_id: UUID, history: History, after: timedelta
) -> None:
    """Suspend or resume the token, change its end, its networks, or its rotation, where it is so.

    A revoked one is not resumed.
    """
    for minute, networks in history.allowed:
        if after == minute * MINUTE and (history.revoked is None or history.revoked > minute):
            if networks:
                await ledger.allow_networks(token_id, networks, by=Operator())
            else:
                await ledger.allow_any_network(token_id, by=Operator())
    if history.moved is not None and after == history.moved[0] * MINUTE:
        to_minute = history.moved[1]
        at = clock.now - after
        ends = None if to_minute is None else at + to_minute * MINUTE
        await ledger.change_scim_token(token_id, ScimTokenChange(expires_at=ends), by=Operator())
    if history.ended is not None and after == 12 * MINUTE:
        await end(ledger, token_id, history.ended)
    if history.suspended is None:
        return
    from_, to = history.suspended
    if after == from_ * MINUTE:
        await ledger.suspend_scim_token(token_id, by=Operator())
    if after == to * MINUTE and (history.revoked is None or history.revoked > to):
        await ledger.resume_scim_token(token_id, by=Operator())


async def end(ledger: TokenLedger, token_id: UUID, how: str) -> None:
    """End a rotation, if one is under way."""
    by = Operator()
    with suppress(NoRotationUnderway):
        if how == "completed":
            await ledger.complete_rotation(token_id, by=by)
        elif how == "cancelled":
            await ledger.cancel_rotation(token_id, by=by)
        else:
            await finish(ledger, token_id)


async def finish(ledger: TokenLedger, token_id: UUID) -> None:
    """As the process does that tells what is due, with figures that are met at once."""

    def decide(token: ScimToken, at: datetime) -> Sequence[Event]:
        in_use = SecretsInUse(token.secrets[-1].id, None, at, at)
        rule = FinishRule(used_apart=timedelta(0), silent_for=timedelta(0))
        return rotation.finish(token, in_use, at=at, rule=rule)

    outcome = await ledger._execute(
        token_id,
        lambda states, at: [(token_id, decide(scim_token_of(states, token_id), at))],
        by=Operator(),
    )
    assert not outcome.is_repeat


async def play(
    ledger: TokenLedger, clock: HandClock, history: History, *, behind: timedelta
) -> int:
    """Play one history and compare at each instant; returns how many verdicts were compared.

    behind: by how much the clock of whoever presents is behind ledger time, which somebody else has
    moved.
    """
    start, by = clock.now, Operator(uuid4())
    expires_at = None if history.expires is None else start + history.expires * MINUTE
    token, secret = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta", expires_at), by=by)
    digests = [PEPPER.digest(secret).value]
    probes = {
        start + minute * MINUTE + shift
        for minute in history.instants()
        for shift in (-MILLISECOND, timedelta(0), MILLISECOND)
    }
    changes = dict(zip((start + at for at in ROTATIONS_AT), history.overlaps, strict=False))
    compared, former = 0, list[bytes]()
    for at in sorted(probes):
        clock.now = at
        if at in changes:
            overlap = changes[at] * MINUTE
            token, secret = await ledger.rotate_scim_token(token.id, overlap=overlap, by=by)
            digests.append(PEPPER.digest(secret).value)
        await change(ledger, clock, token.id, history, at - start)
        if history.revoked is not None and at == start + history.revoked * MINUTE:
            await ledger.revoke_scim_token(token.id, by=by)
        if history.rekeyed is not None and at == start + history.rekeyed * MINUTE:
            former = await rekey_all(ledger, token.id, digests)
        if behind:
            await ledger.create_scim_token(NewScimToken(uuid4(), "of another process"), by=by)
            clock.now = at - behind
        before = await stored(ledger, token)
        presented = [*digests, UNKNOWN, *former]
        ways = history.ways()
        verdicts, after = pure(before, digests, ways, at)
        # the rule is asked about its token's secrets; the unknown one has no token
        expected = [verdicts.get(asked) for asked in product(ways, presented)]
        decisions = await asyncio.gather(
            *(
                ledger.gate.uses.present(Presented([digest], way, at))
                for way in ways
                for digest in presented
            )
        )
        found = [
            None if decision is None else "over" if decision.use_id is None else "good"
            for decision in decisions
        ]
        if found != expected:
            raise Disagreement(f"{history} at {at - start}: {found}, not {expected}")
        assert all(decision.at == at for decision in decisions if decision is not None)
        if (now := await stored(ledger, token)) != after:
            raise Disagreement(f"{history} at {at - start}: {now}, not {after}")
        compared += len(presented)
    return compared


async def play_all(database: Database, histories: Sequence[History]) -> int:
    """Play histories one after the other, each in its own days: ledger time never goes back."""
    clock = HandClock(T0)
    compared = 0
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        played = [
            *((h, BEHIND) for h in histories[::5]),
            *((history, timedelta(0)) for history in histories),
        ]
        for number, (history, behind) in enumerate(played):
            clock.now = T0 + timedelta(days=number)
            compared += await play(ledger, clock, history, behind=behind)
    return compared


@pytest.mark.parametrize(
    ("histories", "at_least"),
    [
        pytest.param([*HISTORIES[::32], *RESTRICTED[::20]], 500, id="some of them"),
        pytest.param([*HISTORIES, *RESTRICTED], 1000, id="all", marks=pytest.mark.long),
    ],
)
def test_the_statement_and_the_rule_agree_for_every_state(
    database: Database, histories: Sequence[History], at_least: int
) -> None:
    assert asyncio.run(play_all(database, histories)) > at_least
    assert len(assert_consistent(database)) >= len(histories)


FIRST, REST = 0, 1
"""The two statements of the function: one use per token, and whatever that left over."""


@pytest.mark.parametrize(
    ("statement", "right", "wrong"),
    by_turns(
        [
            (FIRST, "s.networks IS NULL", "true"),
            (FIRST, "s.good_until > ledger_at", "s.good_until >= ledger_at"),
            (FIRST, "s.good_until > ledger_at", "s.good_until <> '-infinity'"),
            (FIRST, "h.uses + p.uses", "h.uses + 1"),
            (FIRST, "SET version = h.version + 1", "SET version = h.version + 2"),
            (FIRST, "last_used_at = ledger_at", "last_used_at = last_used_at"),
            (REST, "s.good_until > ledger_at", "s.good_until >= ledger_at"),
            (REST, "s.good_until > ledger_at", "s.good_until > ledger_at + interval '1 ms'"),
            (REST, "s.networks IS NULL", "true"),
            (REST, "h.uses + g.uses", "h.uses + 1"),
            (REST, "SET version = h.version + g.steps", "SET version = h.version + 1"),
            (REST, "AND e.command_id = p.use_id", "AND false"),
            # E8: by the caller's clock instead of ledger time, in each place.
            (FIRST, "last_used_at = ledger_at", "last_used_at = clock"),
            (FIRST, "s.good_until > ledger_at", "s.good_until > clock"),
            (FIRST, "owner_id, true, ledger_at", "owner_id, true, clock"),
            (REST, "last_used_at = ledger_at", "last_used_at = clock"),
            (REST, "s.good_until > ledger_at", "s.good_until > clock"),
            (REST, "k.is_good, ledger_at", "k.is_good, clock"),
        ],
        one_of=4,
    ),
)
def test_a_statement_that_differs_is_found(
    database: Database, statement: int, right: str, wrong: str
) -> None:
    plant(database, statement, right, wrong)
    with pytest.raises((Disagreement, AssertionError, StoreUnavailable)):
        # the key refuses a wrong version
        asyncio.run(play_all(database, [*RESTRICTED[::24], *HISTORIES[::3]]))


@pytest.mark.long
@pytest.mark.parametrize("statement", by_turns([FIRST, REST], one_of=2))
def test_an_event_at_the_callers_clock_is_found(database: Database, statement: int) -> None:
    """E8: what it says of ledger time going back is said of the whole ledger, afterwards."""
    before, after = ("version", "use_id") if statement == FIRST else ("a.base + g.step", "g.use_id")
    event = f"{before}, 'scim_token.used.v1', {{}}, {after}"
    plant(database, statement, event.format("ledger_at"), event.format("clock"))
    asyncio.run(play_all(database, HISTORIES[::25]))
    with pytest.raises(AssertionError, match="ledger time went back"):
        assert_consistent(database)


def plant(database: Database, statement: int, right: str, wrong: str) -> None:
    """Put another text into one of the two statements."""
    with psycopg.connect(database.owner) as owner:
        ((definition,),) = owner.execute(
            "SELECT pg_get_functiondef('ledger.record_uses'::regproc)"
        ).fetchall()
        statements = definition.split("GET DIAGNOSTICS")
        assert statements[statement].count(right) == 1
        statements[statement] = statements[statement].replace(right, wrong)
        owner.execute("GET DIAGNOSTICS".join(statements))

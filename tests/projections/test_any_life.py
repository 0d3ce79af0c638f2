"""Whatever was decided of a token, the views say of each instant what its own events say.

Lives are made by the pure rules, and what is expected is the pure state: instants are coarse, so
that many events share one, and ends of overlaps and of tokens fall on them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import cycle
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.errors import LedgerError
from domain.event import Event, Recorded
from domain.postgres.read_pool import ReadPool
from domain.scim_token.changes import change, resume, suspend
from domain.scim_token.conditions import LongestLives, TokenConditions
from domain.scim_token.events import Created, Presentation, Refused, Rotated, Used
from domain.scim_token.fold import evolve
from domain.scim_token.networks.decide import allow, allow_any
from domain.scim_token.rotation import SecretsInUse, cancel, complete, finish, rotate, underway
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id
from projections.scim_tokens import matching
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.matching import TokenMatches
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.secrets import SecretQueries
from projections.scim_tokens.view import document
from tests.conftest import Database, new_database
from tests.domain.scenario import ADA, COMMAND_ID, MILLISECOND, MINUTE, T0, TEAM_ID
from tests.projections.history import Fact, given

TOKENS: Final = tuple(UUID(int=number) for number in (2, 3, 1))
"""As they are created, the first two at the same instant."""
OTHER_TEAM: Final = UUID(int=9)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
SOURCES: Final = ("192.0.2.1", "2001:db8::1", None)
ENDS: Final = (None, HOUR, 3 * HOUR)
OVERLAPS: Final = (timedelta(0), HOUR, 2 * HOUR)
NETWORKS: Final = (("192.0.2.0/24",), ("198.51.100.0/24", "2001:db8::/32"), ())


class Step(msgspec.Struct, frozen=True):
    """What is tried next, of which token, and how much later than what was before.

    choice: of whatever there is to choose from.
    """

    token: int
    kind: str
    later: timedelta
    choice: int


def digest(number: int) -> Digest:
    return Digest(sha256(bytes([number])).digest(), 1)


def _use(token: ScimToken, step: Step, at: datetime, number: int) -> Sequence[Event]:
    held = token.secrets[step.choice % len(token.secrets)].digest.value
    how = Presentation(door="scim", source=SOURCES[number % len(SOURCES)])
    (event,) = token.use(held, presentation=how, count=1, first_at=at, at=at)
    if token.rotated_at is None and step.choice == 2:
        return [msgspec.structs.replace(event, secret=None)]
    return [event]


def _refuse(token: ScimToken, step: Step, _: datetime, number: int) -> Sequence[Event]:
    secret = token.secrets[step.choice % len(token.secrets)].id
    how = Presentation(door="scim", source=SOURCES[number % len(SOURCES)])
    return [Refused("network" if token.networks else "expired", how, (secret, None)[number % 2])]


def _rotate(token: ScimToken, step: Step, at: datetime, number: int) -> Sequence[Event]:
    overlap = OVERLAPS[step.choice]
    return rotate(token, digest=digest(number), overlap=overlap, rotated_by=ADA, at=at)


def _finish(token: ScimToken, _: Step, at: datetime, __: int) -> Sequence[Event]:
    """By itself, since the overlap is over or the older secret has long been silent."""
    silent = SecretsInUse(token.secrets[-1].id, None, at + DAY, at + 2 * DAY)
    return finish(token, silent, at=at)


def _end(token: ScimToken, step: Step, at: datetime, _: int) -> Sequence[Event]:
    end = ENDS[step.choice]
    expires_at = None if end is None else at + end
    return change(token, expires_at=expires_at, by=ADA, reason=None, at=at)


def _allow(token: ScimToken, step: Step, _: datetime, __: int) -> Sequence[Event]:
    """Which networks; it changes nothing of what a list tells."""
    allowed = NETWORKS[step.choice]
    if not allowed:
        return allow_any(token, by=ADA, reason=None)
    return allow(token, allowed, by=ADA, reason=None)


DECISIONS: Final[Mapping[str, Callable[[ScimToken, Step, datetime, int], Sequence[Event]]]] = {
    "use": _use,
    "refuse": _refuse,
    "rotate": _rotate,
    "complete": lambda token, _, at, __: complete(token, completed_by=ADA, at=at),
    "cancel": lambda token, _, at, __: cancel(token, cancelled_by=ADA, at=at),
    "finish": _finish,
    "end": _end,
    "name": lambda token, step, at, _: change(
        token, name=("Okta", "Entra", "JumpCloud")[step.choice], by=ADA, reason=None, at=at
    ),
    "allow": _allow,
    "suspend": lambda token, *_: suspend(token, by=ADA, reason=None),
    "resume": lambda token, *_: resume(token, by=ADA, reason=None),
    "revoke": lambda token, *_: token.revoke(by=ADA, reason=None),
}
OFTEN: Final = (
    *("use", "rotate") * 4,
    *("complete", "resume") * 2,
    *("cancel",) * 4,
    *("name",) * 2,
)
"""Beside each of them once: what most of the others need, and what seldom finds what it needs."""
STEPS: Final = st.lists(
    st.builds(
        Step,
        token=st.integers(0, 2),
        kind=st.sampled_from([*OFTEN, *DECISIONS]),
        later=st.sampled_from([timedelta(0), MINUTE, MINUTE, 20 * MINUTE, HOUR]),
        choice=st.integers(0, 2),
    ),
    min_size=20,
    max_size=50,
)


def lives(steps: Sequence[Step]) -> list[Fact]:
    """What the rules made of the steps; what they refused did not happen."""
    at, tokens, found = T0, dict[UUID, ScimToken](), list[Fact]()

    def happen(token_id: UUID, event: Event) -> None:
        found.append((token_id, event, at))
        tokens[token_id] = _after(tokens.get(token_id), found[-1])

    for number, token_id in enumerate(TOKENS):
        at = T0 + number // 2 * MINUTE
        expires_at = None if number == 0 else T0 + number * HOUR
        happen(token_id, Created(TEAM_ID, "Okta", ADA, digest(200 + number), expires_at))
    for number, step in enumerate(steps):
        at += step.later
        token_id = TOKENS[step.token]
        with suppress(LedgerError):
            for event in DECISIONS[step.kind](tokens[token_id], step, at, number):
                happen(token_id, event)
    return found


def _after(token: ScimToken | None, fact: Fact) -> ScimToken:
    token_id, event, at = fact
    version = 1 if token is None else token.version + 1
    return evolve(token, Recorded(token_id, version, at, COMMAND_ID, event))


def states(history: Sequence[Fact], at: datetime) -> list[ScimToken]:
    """Each token after its events up to and at an instant, the newest first."""
    found: dict[UUID, ScimToken] = {}
    for fact in history:
        if fact[2] <= at:
            found[fact[0]] = _after(found.get(fact[0]), fact)
    return sorted(found.values(), key=lambda each: (each.created_at, each.id), reverse=True)


def statuses(token: ScimToken, at: datetime) -> set[str]:
    """The lists that it is on at an instant, from which on all that happens at it holds."""
    if token.revoked_at is not None:
        return {"all", "revoked"}
    is_over = token.expires_at is not None and token.expires_at <= at
    if is_over:
        return {"all", "expired"}
    return {"all", "active"} | ({"suspended"} if token.suspended_at is not None else set())


def told(token: ScimToken) -> Any:
    return msgspec.to_builtins(document(token))


def _plain(documents: str) -> list[Any]:
    found = msgspec.json.decode(documents)
    return [{name: each[name] for name in each if name != "rotation"} for each in found]


async def check_the_past(
    queries: AsOfQueries, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """Each token and each list, as it was at each instant."""
    for at in instants:
        then = states(history, at)
        for token in then:
            found = await queries.find(token.id, teams=None, at=at, ledger_head=0)
            expected = told(token) if token.revoked_at is None else None
            assert (found and msgspec.json.decode(found)) == expected, at
        for status in ("active", "expired", "revoked", "all"):
            narrow = TokenFilter(status=status)
            page = await queries.page(narrow, after=None, limit=9, at=at, ledger_head=0)
            expected = [told(each) for each in then if status in statuses(each, at)]
            assert _plain(page.documents) == expected, (status, at)


async def check_the_present(
    queries: TokenQueries, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """The lists, and which rotations they tell of, from the last event on."""
    now = states(history, instants[-1])
    for at in instants:
        for status in ("active", "expired", "suspended", "revoked", "all"):
            page = await queries.page(
                TokenFilter(status=status), after=None, limit=9, at=at, ledger_head=0
            )
            expected = [each for each in now if status in statuses(each, at)]
            assert _plain(page.documents) == [told(each) for each in expected], (status, at)
            for found, token in zip(msgspec.json.decode(page.documents), expected, strict=True):
                assert found.get("rotation") == rotation(history, token, at), at
        rotating = await queries.page(
            TokenFilter(is_rotating=True), after=None, limit=9, at=at, ledger_head=0
        )
        expected = [each for each in now if underway(each, at) is not None]
        assert _plain(rotating.documents) == [told(each) for each in expected], at


def rotation(history: Sequence[Fact], token: ScimToken, at: datetime) -> Any:
    """What is told of the one that is under way: when, and how both secrets were used."""
    older = underway(token, at)
    if older is None:
        return None
    assert token.rotated_at is not None
    uses = [(event.secret, then) for event, then in _uses(history, token)]
    newer_uses = [then for secret, then in uses if secret == token.secrets[-1].id]
    older_uses = [then for secret, then in uses if secret in {older.id, None}]
    return {
        "started_at": _text(token.rotated_at),
        "ends_at": _text(min(older.overlap_until or at, token.expires_at or at + 9 * DAY)),
        "new_first_used_at": _text(newer_uses[0]) if newer_uses else None,
        "old_last_used_at": _text(older_uses[-1]) if older_uses else None,
    }


def _uses(history: Sequence[Fact], token: ScimToken) -> list[tuple[Used, datetime]]:
    return [
        (event, at) for id_, event, at in history if id_ == token.id and isinstance(event, Used)
    ]


async def check_the_filters(
    queries: TokenQueries, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """What each filter leaves of all that there are, at the bounds of each instant."""
    last = history[-1][2]
    now = [each for each in states(history, last) if each.revoked_at is None]

    async def ask(narrow: TokenFilter, expected: Sequence[ScimToken]) -> None:
        page = await queries.page(narrow, after=None, limit=9, at=last, ledger_head=0)
        active = [each for each in expected if "active" in statuses(each, last)]
        assert _plain(page.documents) == [told(each) for each in active], narrow

    await ask(TokenFilter(is_never_used=True), [each for each in now if not each.uses])
    for name in ("Okta", "Entra"):
        await ask(TokenFilter(name=name), [each for each in now if each.name == name])
    for at in instants:
        unused = [
            each for each in now if each.created_at < at and (each.last_used_at or T0 - DAY) < at
        ]
        await ask(TokenFilter(unused_since=at), unused)
        end = at + HOUR
        ending = [each for each in now if each.expires_at is not None and each.expires_at < end]
        await ask(TokenFilter(expires_before=end), ending)


async def check_the_secrets(
    queries: SecretQueries, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """Every secret that there was: when it was used, and an end from when on it lets nobody in."""
    for token in states(history, instants[-1]):
        resumed = msgspec.structs.replace(token, suspended_at=None)
        mine = [(event, at) for id_, event, at in history if id_ == token.id]
        digests = [event.digest.value for event, _ in mine if isinstance(event, Created | Rotated)]
        found = await queries.of_token(token.id, teams=None, ledger_head=0)
        assert [each.id for each in found] == [secret_id(each) for each in digests]
        for secret, known in zip(digests, found, strict=True):
            its = {known.id, None} if len(digests) == 1 else {known.id}
            uses = [_text(at) for event, at in _uses(history, token) if event.secret in its]
            ends = (uses[0], uses[-1]) if uses else (None, None)
            assert (known.first_used_at, known.last_used_at) == ends
            for at in instants:
                lasts = known.ends_at is None or known.ends_at > _text(at)
                assert lasts == (resumed.refusal(secret, at=at) is None), at


async def check_the_chosen(
    queries: TokenMatches, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """Those that conditions hold for, which the walk finds by statements of two rows each."""
    now = states(history, history[-1][2])
    of_user = TokenConditions(created_by=ADA.user_id)
    short = LongestLives(general=0)
    asked = [of_user, TokenConditions(violates_policy=True, longest_lives=short)]
    asked += [TokenConditions(team_id=team) for team in (TEAM_ID, OTHER_TEAM, TEAM_ID)]
    asked += [TokenConditions(ids=frozenset(TOKENS[1:]))]
    for at in instants:
        asked += [TokenConditions(created_before=at), TokenConditions(unused_since=at)]
    for where, teams in zip(
        asked, cycle([None, [OTHER_TEAM], [OTHER_TEAM, TEAM_ID]]), strict=False
    ):
        walk = queries.walk(where, teams=teams, ledger_head=0)
        found = [id_ async for chosen in walk for id_ in chosen]
        mine = now if teams is None or TEAM_ID in teams else []
        assert found == [each.id for each in mine if where.hold_for(each)], (where, teams)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check(server: str, steps: Sequence[Step], batch: int) -> None:
    history = lives(steps)

    async def ask(database: Database) -> None:
        pool = ReadPool(database.app, timeout_s=10)
        last = history[-1][2]
        around = {
            at + step for at in {at for _, _, at in history} for step in (-MILLISECOND, 0 * HOUR)
        }
        later = [last, *(last + step for step in (HOUR - MILLISECOND, HOUR, 2 * HOUR))]
        try:
            await check_the_past(AsOfQueries(pool), history, sorted(around)[1:])
            await check_the_present(TokenQueries(pool), history, later)
            await check_the_filters(TokenQueries(pool), history, sorted(around))
            await check_the_secrets(SecretQueries(pool), history, later)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(matching, "STEP", 2)
                await check_the_chosen(TokenMatches(pool), history, sorted(around))
        finally:
            await pool.close()

    with new_database(server) as database:
        given(database, *history, batch=batch)
        asyncio.run(ask(database))


BATCHES: Final = st.sampled_from([1, 3, 5000])


BESIDE_A_USED_ONE: Final = [
    Step(token, kind, MINUTE, 1) for token, kind in ((0, "use"), (2, "use"), (1, "rotate"))
]
COMPLETED_TWICE: Final = [
    Step(0, kind, MINUTE, 1) for kind in ("rotate", "complete", "rotate", "complete", "name")
]


@settings(max_examples=5)
@example(BESIDE_A_USED_ONE, 5000)
@example(COMPLETED_TWICE, 5000)
@given_any(steps=STEPS, batch=BATCHES)
def test_the_views_say_what_the_states_say(server: str, steps: list[Step], batch: int) -> None:
    check(server, steps, batch)


@pytest.mark.long
@settings(max_examples=100)
@given_any(steps=STEPS, batch=BATCHES)
def test_the_views_say_what_the_states_say_in_many_lives(
    server: str, steps: list[Step], batch: int
) -> None:
    check(server, steps, batch)

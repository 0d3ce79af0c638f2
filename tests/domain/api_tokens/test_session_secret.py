"""A session ends with the secret that signed in: the rule, and wherever the ledger asks it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.api_token.events import ApiTokenEvent, Created, Rekeyed
from domain.api_token.permissions import Permission
from domain.api_token.rotation import rotate
from domain.api_token.session import as_it_stands, open_session
from domain.api_token.token import ApiToken, evolve
from domain.authority import ApiCall
from domain.commands import NewApiToken
from domain.errors import Refusal, Unauthenticated
from domain.event import Actor, Recorded
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.secret import Digest, Secret
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import COMMAND_ID, T0

ADA: Final = Actor(user_id=UUID(int=1), api_token_id=None)
HOUR: Final = timedelta(hours=1)
CALL: Final = Presentation(door="api")
MANAGE: Final = Permission.API_TOKENS_MANAGE


class Life:
    """An API token with whatever was done to it, and the sessions that were opened meanwhile, each
    with the place of the secret that signed in.
    """

    def __init__(self) -> None:
        self.at = T0
        self.secrets: list[Digest] = []
        self.sessions: list[tuple[ApiToken, int]] = []
        made = Created(ADA.user_id or UUID(int=1), None, (MANAGE,), self.new(), ADA, None)
        self.token = evolve(None, Recorded(UUID(int=2), 1, T0, COMMAND_ID, made))

    def new(self) -> Digest:
        self.secrets.append(Digest(bytes([len(self.secrets)]) * 32, 1))
        return self.secrets[-1]

    def record(self, events: Sequence[ApiTokenEvent]) -> None:
        for event in events:
            place = self.token.version + 1
            self.token = evolve(
                self.token, Recorded(self.token.id, place, self.at, COMMAND_ID, event)
            )

    def rotate(self, overlap: timedelta) -> None:
        digest = Digest(bytes([len(self.secrets)]) * 32, 1)
        try:
            events = rotate(self.token, digest=digest, overlap=overlap, rotated_by=ADA, at=self.at)
        except Refusal:
            return
        self.record(events)
        self.secrets.append(digest)

    def rekey(self, which: int) -> None:
        held = dict(self.token.held)
        digest = self.secrets[which % len(self.secrets)]
        if name := held.get(digest):
            anew = Digest(bytes([100 + self.token.version]) * 32, digest.key_generation + 1)
            self.record([Rekeyed(name, anew)])
            self.secrets[which % len(self.secrets)] = anew

    def sign_in(self, which: int) -> None:
        which %= len(self.secrets)
        presented = [self.secrets[which].value, b"\xff" * 32]
        digest = Digest(bytes([200 + len(self.sessions)]) * 32, 1)
        try:
            (made,) = open_session(
                self.token, digest=digest, presented=presented, by=ADA, at=self.at
            )
        except Unauthenticated:
            return
        session = evolve(None, Recorded(uuid4(), 1, self.at, COMMAND_ID, made))
        self.sessions.append((session, which))

    def is_secret_good(self, which: int) -> bool:
        return self.token.is_good(at=self.at, digests=[self.secrets[which].value])


STEPS: Final = st.one_of(
    st.tuples(st.just("rotate"), st.sampled_from([0 * HOUR, HOUR, 3 * HOUR])),
    st.tuples(st.just("rekey"), st.integers(0, 9)),
    st.tuples(st.just("sign_in"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from([timedelta(seconds=10), HOUR, 3 * HOUR])),
)


@settings(max_examples=300)
@given(steps=st.lists(STEPS, max_size=25))
def test_a_session_is_good_as_long_as_the_secret_that_signed_in_is(
    steps: list[tuple[str, timedelta | int]],
) -> None:
    life = Life()
    for step, how in steps:
        if isinstance(how, timedelta):
            life.at += how if step == "wait" else timedelta(0)
            if step == "rotate":
                life.rotate(how)
        elif step == "rekey":
            life.rekey(how)
        else:
            life.sign_in(how)
        for session, which in life.sessions:
            is_good = as_it_stands(session, life.token).is_good(at=life.at)
            assert is_good == (life.is_secret_good(which) and session.is_good(at=life.at))
            of_early_release = replace(session, session_secret=None)
            if as_it_stands(of_early_release, life.token).is_good(at=life.at):
                assert life.is_secret_good(which), "it may end sooner, never later"


def test_one_of_an_early_release_goes_on_while_nothing_ends() -> None:
    life = Life()
    life.rotate(HOUR)
    life.at += timedelta(seconds=1)
    life.sign_in(1)
    ((session, _),) = life.sessions
    of_early_release = replace(session, session_secret=None)
    for at, is_good in ((life.at, True), (T0 + HOUR, False)):
        assert as_it_stands(of_early_release, life.token).is_good(at=at) == is_good
    assert as_it_stands(of_early_release, None).is_good(at=T0 + HOUR), "nothing is known"


# In the ledger


def call_of(token: ApiToken) -> ApiCall:
    return ApiCall(token.id, digests=[token.digest.value], session_of=token.session_of)


async def is_let_in(ledger: TokenLedger, secret: Secret) -> bool:
    caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
    assert caller is not None
    assert caller.is_good or caller.why_not == "expired"
    return caller.is_good


async def gives_commands(ledger: TokenLedger, session: ApiToken) -> bool:
    try:
        ask = NewApiToken(uuid4(), None, (MANAGE,), None)
        await ledger.create_api_token(ask, by=call_of(session))
        await ledger.use_api_token(
            session.id, digests=[session.digest.value], session_of=session.session_of
        )
    except Unauthenticated:
        return False
    return True


async def is_listed(ledger: TokenLedger, session: ApiToken, *, at: datetime) -> bool:
    manager = replace(session, teams=None)
    listed = await ledger.good_api_tokens(seen_by=manager, at=at)
    return session.id in {each.id for each in listed}


@pytest.mark.parametrize("overlap", [0 * HOUR, HOUR, 20 * HOUR])
def test_it_is_over_for_whoever_asks_when_the_secret_is(
    database: Database, run: Run, overlap: timedelta
) -> None:
    clock = HandClock(T0 + timedelta(days=365 * 20))
    began = clock.now

    async def main() -> None:
        ours = believing_any_clock(database)
        async with open_ledger(ours, clock_and_ids=clock.clock_and_ids) as ledger:
            ask = NewApiToken(uuid4(), None, (MANAGE,), None)
            token, _ = await ledger.create_api_token(ask)
            older = await ledger.open_session(by=call_of(token))
            newest, _ = await ledger.rotate_api_token(token.id, overlap=overlap)
            newer = await ledger.open_session(by=call_of(newest))
            for later in (0 * HOUR, HOUR - timedelta(milliseconds=1), HOUR, 7 * HOUR):
                clock.now = began + later
                for (session, secret), is_good in ((older, later < overlap), (newer, True)):
                    assert await is_let_in(ledger, secret) == is_good
                    assert await gives_commands(ledger, session) == is_good
                    assert await is_listed(ledger, session, at=clock.now) == is_good
                    one = await ledger.api_token(session.id)
                    assert one.is_good(at=clock.now) == is_good
                    assert one in await ledger.api_tokens()

    run(main())


def test_that_it_was_refused_is_on_record(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, _ = await ledger.create_api_token(NewApiToken(uuid4(), None, (MANAGE,), None))
            session, secret = await ledger.open_session(by=call_of(token))
            await ledger.rotate_api_token(token.id, overlap=timedelta(0))
            caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
            assert caller is not None
            await ledger.refuse_api_token(
                session.id,
                lacking=None,
                presentation=CALL,
                at=caller.at,
                digests=caller.digests,
                session_of=token.id,
            )
            assert (await ledger.api_token(session.id)).refused_for == "expired"

    run(main())


def test_a_page_is_full_however_many_have_ended_between(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            ask = NewApiToken(uuid4(), None, (MANAGE,), None)
            first = [(await ledger.create_api_token(ask))[0] for _ in range(3)]
            for _ in range(20):
                await ledger.open_session(by=call_of(first[0]))
            newest, _ = await ledger.rotate_api_token(first[0].id, overlap=timedelta(0))
            last, _ = await ledger.open_session(by=call_of(newest))
            at = await ledger.time()
            listed = await ledger.good_api_tokens(seen_by=first[0], at=at, limit=3)
            assert [each.id for each in listed] == [last.id, first[2].id, first[1].id]
            all_ = await ledger.good_api_tokens(seen_by=first[0], at=at, limit=100)
            assert len(all_) == 4

    run(main())

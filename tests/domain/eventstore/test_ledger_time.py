"""B1: no clock of one process moves ledger time for the others, whatever it shows."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import CommandKey, NewApiToken, NewScimToken, ScimTokenChange
from domain.errors import (
    ClockSkewed,
    InvalidValue,
    SecretAlreadyShown,
    TokenExpired,
    Unavailable,
)
from domain.event import Actor, Recorded
from domain.ledger import TokenLedger
from domain.scim_token.events import Created, Presentation
from domain.scim_token.token import ScimToken
from domain.secret import Digest, Secret
from projections.ledger_check import check_ledger
from projections.warnings.teller import Teller
from tests.conftest import PEPPER, Database, Run, new_database, now, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.eventstore.test_gate import create as issue
from tests.domain.scenario import T0
from tests.turns import by_turns

ADA, IDP = Operator(uuid4()), Presentation(door="scim")
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
WRONG: Final = (
    60 * DAY,
    40 * DAY,
    timedelta(hours=1),
    3 * SECOND,
    -5 * SECOND,
    -timedelta(hours=1),
    -40 * DAY,
)
RIGHT: Final = (SECOND, timedelta(0), -2 * SECOND)


class Drifting(HandClock):
    """The clock of the machine, moved by a hand."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def __call__(self) -> datetime:
        return now() + self.ahead


async def create(
    ledger: TokenLedger, *, lifetime: timedelta | None = 30 * DAY
) -> tuple[ScimToken, Secret]:
    expires_at = None if lifetime is None else now() + lifetime
    return await ledger.create_scim_token(NewScimToken(uuid4(), "Okta", expires_at), by=ADA)


def instants(database: Database) -> list[datetime]:
    with psycopg.connect(database.owner) as owner:
        return [
            at for (at,) in owner.execute("SELECT at FROM ledger.events ORDER BY notification_id")
        ]


def assert_clean(database: Database) -> None:
    assert_consistent(database)
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None


class Known:
    """A token, its secret, and an API token, made by a process whose clock is right."""

    def __init__(
        self, token: ScimToken, secret: Secret, api_token: UUID, api_secret: Secret
    ) -> None:
        self.token, self.secret = token, secret
        self.api_token, self.api_secret = api_token, api_secret


async def known_of(ledger: TokenLedger) -> Known:
    ask = NewApiToken(uuid4(), None, tuple(Permission), 30 * DAY)
    api_token, api_secret = await ledger.create_api_token(ask)
    return Known(*await create(ledger), api_token.id, api_secret)


async def save(ledger: TokenLedger, at: datetime) -> None:
    """An event through the library's own door, at whatever instant the caller writes on it."""
    token_id = uuid4()
    created = Created(uuid4(), "Okta", Actor(uuid4(), None), Digest(token_id.bytes * 2, 1), None)
    await asyncio.to_thread(ledger.save, Recorded(token_id, 1, at, uuid4(), created))


WAYS: Final[dict[str, Callable[[TokenLedger, Known], Awaitable[object]]]] = {
    "use": lambda ledger, known: ledger.authenticate(known.secret, IDP),
    "create": lambda ledger, _: create(ledger, lifetime=None),
    "rotate": lambda ledger, known: ledger.rotate_scim_token(known.token.id, by=ADA),
    "revoke": lambda ledger, known: ledger.revoke_scim_token(known.token.id, by=ADA),
    "create an API token": lambda ledger, _: ledger.create_api_token(
        NewApiToken(uuid4(), None, tuple(Permission), None)
    ),
    "use an API token": lambda ledger, known: ledger.use_api_token(known.api_token),
    "look a caller up": lambda ledger, known: ledger.api_token_lookup.find(
        PEPPER.candidates(known.api_secret)
    ),
    "save through the library": lambda ledger, _: save(ledger, ledger.clock_and_ids.clock()),
}


async def is_refused(call: Awaitable[object]) -> bool:
    """Whether it is told that the token has ended."""
    try:
        await call
    except (InvalidValue, TokenExpired) as refusal:
        return "expired" in f"{refusal!r}".lower()
    return False


@pytest.mark.parametrize(
    ("ahead_s", "other_s"), by_turns([(0, -1), (0.5, 0), (0.2, -2.5)], one_of=3)
)
@pytest.mark.parametrize("how", ["take its end away", "rotate", "use"])
def test_what_one_process_found_ended_no_other_revives(
    database: Database, run: Run, how: str, ahead_s: float, other_s: float
) -> None:
    """A refusal leaves no event, so that ledger time must not be that of whoever asks."""
    clocks = [Drifting(seconds * SECOND).clock_and_ids for seconds in (ahead_s, other_s)]

    async def main() -> None:
        async with (
            open_ledger(database.app, clock_and_ids=clocks[0]) as one,
            open_ledger(database.app, clock_and_ids=clocks[1]) as other,
        ):
            token, secret = await create(one, lifetime=0.7 * SECOND)
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "take its end away": lambda: other.change_scim_token(
                    token.id, ScimTokenChange(expires_at=None), by=ADA
                ),
                "rotate": lambda: other.rotate_scim_token(token.id, by=ADA),
                "use": lambda: other.authenticate(secret, IDP),
            }
            while not await is_refused(
                one.change_scim_token(token.id, ScimTokenChange("Entra"), by=ADA)
            ):
                await asyncio.sleep(0.02)
            assert await is_refused(ways[how]())

    run(main())


@pytest.mark.parametrize("ahead", by_turns([*WRONG, *RIGHT], one_of=3), ids=str)
def test_a_process_is_heard_only_while_its_clock_agrees_with_the_databases(
    database: Database, run: Run, ahead: timedelta
) -> None:
    side = "ahead of" if ahead > timedelta(0) else "behind"
    reason = rf"the clock of this process is \d+\.\d s {side} that of the database"

    async def main() -> None:
        async with (
            open_ledger(database.app) as sane,
            open_ledger(database.app, clock_and_ids=Drifting(ahead).clock_and_ids) as wrong,
        ):
            known = await known_of(sane)
            before = instants(database)
            for name, ask in WAYS.items():
                if ahead in RIGHT and name == "save through the library" and ahead < timedelta(0):
                    continue  # its instants are before the last event's, which is another refusal
                says = pytest.raises(ClockSkewed, match=reason)
                with says if ahead in WRONG else nullcontext():
                    await ask(wrong, known)
            if ahead in WRONG:
                assert instants(database) == before
                assert (await sane.authenticate(known.secret, IDP)).use_id is not None
                assert (await create(sane, lifetime=20 * DAY))[0].expires_at is not None

    run(main())
    assert_clean(database)
    assert instants(database)[-1] <= now() + 2 * SECOND


def test_a_clock_is_compared_with_that_of_the_moment_and_not_of_when_a_transaction_began(
    database: Database,
) -> None:
    """An append may have waited for the lock meanwhile."""
    with psycopg.connect(database.app) as connection:
        connection.execute("SELECT pg_sleep(0.2)")
        assert connection.execute(
            "SELECT ledger.is_believed(clock_timestamp() + interval '1.9 s'),"
            " ledger.is_believed(transaction_timestamp() - interval '2.9 s')"
        ).fetchone() == (True, False)
        with pytest.raises(psycopg.Error, match=r"is (?:5\.0|4\.9) s ahead"):
            connection.execute("SELECT ledger.ledger_time(clock_timestamp() + interval '5 s')")


def test_planted_the_ledger_time_of_before_lets_one_clock_expire_every_token(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        believing_any_clock(database)
        async with (
            open_ledger(database.app) as sane,
            open_ledger(database.app, clock_and_ids=Drifting(40 * DAY).clock_and_ids) as wrong,
        ):
            known = await known_of(sane)
            await create(wrong, lifetime=None)
            with pytest.raises(TokenExpired):
                await sane.authenticate(known.secret, IDP)

    run(main())


@pytest.mark.parametrize(
    "ways",
    [
        ("use", "look a caller up", "use"),
        *(
            pytest.param((way,), id=way)
            for way in WAYS
            if way not in {"rotate", "save through the library"}
        ),
    ],
)
def test_an_alarm_is_logged_when_it_begins_and_when_it_ends(
    database: Database, run: Run, ways: tuple[str, ...]
) -> None:
    """By whichever way it is seen: a process may be asked in one way alone."""

    async def main() -> None:
        clock = Drifting()
        async with open_ledger(database.app, clock_and_ids=clock.clock_and_ids) as ledger:
            known = await known_of(ledger)
            for clock.ahead in (40 * DAY, timedelta(0), -40 * DAY, timedelta(0)):
                for ask in (WAYS[way] for way in ways):
                    try:
                        await ask(ledger, known)
                    except ClockSkewed:
                        assert clock.ahead

    with structlog.testing.capture_logs() as logged:
        run(main())
    assert [(record["log_level"], record["event"]) for record in logged] == [
        ("error", "clock.refused"),
        ("warning", "clock.believed_again"),
    ] * 2
    reason = re.fullmatch(
        r"the clock of this process is ([0-9.]+) s ahead of that of the database",
        logged[0]["reason"],
    )
    assert reason is not None, logged[0]
    assert float(reason[1]) == pytest.approx((40 * DAY).total_seconds(), abs=60)


def test_the_process_that_warns_logs_an_alarm_when_it_begins_and_when_it_ends(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        clock = Drifting()
        async with Teller(database.app, clock.clock_and_ids) as teller:
            for clock.ahead in (40 * DAY, timedelta(0), -40 * DAY, timedelta(0)):
                with pytest.raises(ClockSkewed) if clock.ahead else nullcontext():
                    await teller.round()

    with structlog.testing.capture_logs() as logged:
        run(main())
    assert [record["event"] for record in logged] == ["clock.refused", "clock.believed_again"] * 2


@pytest.mark.parametrize(
    "ahead",
    by_turns([timedelta(hours=-23), timedelta(hours=23), -40 * DAY, 40 * DAY], one_of=2),
    ids=str,
)
def test_a_repeat_is_a_repeat_whatever_the_clock_of_the_second_process_shows(
    database: Database, run: Run, ahead: timedelta
) -> None:
    async def main() -> None:
        key = CommandKey(uuid4(), b"create")
        ask = NewScimToken(uuid4(), "Okta")
        async with (
            open_ledger(database.app) as sane,
            open_ledger(database.app, clock_and_ids=Drifting(ahead).clock_and_ids) as wrong,
        ):
            await sane.create_scim_token(ask, by=ADA, key=key)
            with pytest.raises(ClockSkewed):
                await wrong.create_scim_token(ask, by=ADA, key=key)
            with pytest.raises(SecretAlreadyShown):
                await sane.create_scim_token(ask, by=ADA, key=key)

    run(main())
    assert len(instants(database)) == 1


@pytest.mark.parametrize(("hours_ago", "is_repeat"), [(23, True), (25, False)])
def test_in_a_ledger_that_has_jumped_a_key_counts_for_a_day_of_its_own_time(
    database: Database, run: Run, hours_ago: int, *, is_repeat: bool
) -> None:
    async def main() -> None:
        key = CommandKey(uuid4(), b"create")
        ask = NewScimToken(uuid4(), "Okta")
        async with open_ledger(database.app) as ledger:
            await ledger.create_scim_token(ask, by=ADA, key=key)
            with psycopg.connect(database.owner) as owner:
                owner.execute("UPDATE ledger.events SET at = at + interval '40 days'")
                owner.execute(
                    "UPDATE ledger.commands SET at = at + interval '40 days' - %s",
                    [timedelta(hours=hours_ago)],
                )
            if is_repeat:
                with pytest.raises(SecretAlreadyShown):
                    await ledger.create_scim_token(ask, by=ADA, key=key)
            else:
                await ledger.create_scim_token(ask, by=ADA, key=key)

    run(main())


@pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY], ids=str)
def test_a_use_that_waited_while_the_clock_was_set_is_not_said_to_have_begun_long_ago(
    database: Database, run: Run, jump: timedelta
) -> None:
    async def main() -> None:
        clock = Drifting()
        async with open_ledger(database.app, clock_and_ids=clock.clock_and_ids) as ledger:
            _, secret = await create(ledger)
            clock.ahead = jump
            waiting = asyncio.ensure_future(ledger.authenticate(secret, IDP))
            await asyncio.sleep(0)  # it arrives, and its batch has not begun
            clock.ahead = timedelta(0)
            await waiting

    run(main())
    (used,) = _first_instants(database)
    assert timedelta(0) <= instants(database)[-1] - used <= SECOND
    assert_clean(database)


def _first_instants(database: Database) -> list[datetime]:
    with psycopg.connect(database.owner) as owner:
        rows = owner.execute(
            "SELECT (convert_from(state, 'utf8')::jsonb ->> 'first_at')::timestamptz "
            "FROM ledger.events "
            "WHERE topic = 'scim_token.used.v1'"
        )
        return [at for (at,) in rows]


class Replicas:
    """Three processes on one ledger, each with a clock of its own that jumps when it likes."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.clocks = [Drifting() for _ in range(3)]
        self.keys: list[tuple[CommandKey, NewScimToken]] = []
        self.minted: dict[UUID, int] = {}
        self.answered = 0

    async def play(self, steps: int) -> None:
        """Jump, use, create and repeat; whatever is refused is refused for the
        clock of who was asked.
        """
        async with (
            open_ledger(self.database.app) as sane,
            open_ledger(self.database.app, clock_and_ids=self.clocks[0].clock_and_ids) as one,
            open_ledger(self.database.app, clock_and_ids=self.clocks[1].clock_and_ids) as two,
            open_ledger(self.database.app, clock_and_ids=self.clocks[2].clock_and_ids) as three,
        ):
            tokens = [
                await create(sane, lifetime=lifetime) for lifetime in (timedelta(hours=1), 30 * DAY)
            ]
            for _ in range(steps):
                place = self.random.randrange(3)
                ledger, clock = (one, two, three)[place], self.clocks[place]
                if self.random.random() < 0.4:
                    seconds = self.random.choice((60 * 86400, 3600, 5, 1, 0, 0, 0))
                    clock.ahead = timedelta(seconds=self.random.uniform(-seconds, seconds))
                await self._ask(ledger, clock, self.random.choice(tokens)[1])
            for _, secret in tokens:
                assert (await sane.authenticate(secret, IDP)).use_id is not None

    async def _ask(self, ledger: TokenLedger, clock: Drifting, secret: Secret) -> None:
        begun = clock.ahead
        try:
            if self.random.random() < 0.6:
                await ledger.authenticate(secret, IDP)
            else:
                await self._create(ledger)
            self.answered += 1
        except ClockSkewed:
            assert abs(begun) > 1.5 * SECOND, "a clock that is right was refused"

    async def _create(self, ledger: TokenLedger) -> None:
        if self.keys and self.random.random() < 0.5:
            key, ask = self.random.choice(self.keys)
        else:
            key, ask = CommandKey(uuid4(), b"create"), NewScimToken(uuid4(), "Okta")
            self.keys.append((key, ask))
        try:
            await ledger.create_scim_token(ask, by=ADA, key=key)
            self.minted[key.id] = self.minted.get(key.id, 0) + 1
        except SecretAlreadyShown:
            assert key.id in self.minted


def play(server: str, seed: int, steps: int, *, planted: bool = False) -> None:
    with new_database(server) as database:
        if planted:
            believing_any_clock(database)
        replicas = Replicas(database, seed)
        asyncio.run(replicas.play(steps))
        assert instants(database)[-1] <= now() + 2 * SECOND, "ledger time is beyond the database's"
        assert set(replicas.minted.values()) <= {1}, "one key, one effect"
        assert replicas.answered
        assert_clean(database)


@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_the_clocks_of_three_replicas_do_no_token_suffers(server: str, seed: int) -> None:
    play(server, seed, 40)


@pytest.mark.parametrize("seed", by_turns(range(3), one_of=3))
def test_planted_the_replicas_find_the_ledger_time_of_before(server: str, seed: int) -> None:
    with pytest.raises((AssertionError, TokenExpired, Unavailable)):
        play(server, seed, 60, planted=True)


class TestAClockThatJumpsBack:
    def test_ledger_time_stands_still(self, database: Database, run: Run) -> None:
        async def main() -> None:
            clock = HandClock(T0)
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                token, secret = await issue(ledger)
                clock.advance(timedelta(hours=-1))
                second, _ = await issue(ledger)
                decision = await ledger.authenticate(secret, IDP)
                await ledger.rotate_scim_token(token.id, by=ADA)
                assert (second.created_at, decision.at) == (T0, T0)
                clock.advance(timedelta(hours=2))
                assert (await ledger.authenticate(secret, IDP)).at == T0 + timedelta(hours=1)

        run(main())
        assert_consistent(database)

    def test_a_use_that_arrived_before_the_clock_jumped_back_did_not_begin_after_it_was_recorded(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            clock = HandClock(T0)
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                _, secret = await issue(ledger)
                clock.advance(timedelta(hours=1))
                waiting = asyncio.ensure_future(ledger.authenticate(secret, IDP))
                await asyncio.sleep(0)  # it arrives, and its batch has not begun
                clock.advance(timedelta(hours=-1))
                await waiting

        run(main())
        assert_consistent(database)

    def test_an_expired_token_does_not_revive(self, database: Database, run: Run) -> None:
        async def main() -> None:
            clock = HandClock(T0)
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                _, secret = await issue(ledger, expires_at=T0 + timedelta(hours=1))
                clock.advance(timedelta(hours=1))
                with pytest.raises(TokenExpired):
                    await ledger.authenticate(secret, IDP)
                clock.advance(timedelta(hours=-1))
                with pytest.raises(TokenExpired):
                    await ledger.authenticate(secret, IDP)

        run(main())
        assert_consistent(database)

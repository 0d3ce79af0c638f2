"""A clock that steps by an hour or a day, either way, neither revives nor kills any secret.

A secret ends with an overlap, with its token, with a suspension or for good, each of which is an
instant that is compared with ledger time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import NewScimToken
from domain.errors import ClockSkewed, TokenRefused
from domain.ledger import TokenLedger
from domain.secret import Secret
from projections.warnings.teller import Teller
from tests.conftest import CLOCK_AND_IDS, Database, catch_up, new_database, now, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.eventstore.test_ledger_time import ADA, IDP, Drifting

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
STEPS: Final = (HOUR, -HOUR, DAY, -DAY)
SPANS: Final = (timedelta(0), HOUR / 2, 2 * HOUR, 20 * HOUR, 30 * DAY)
"""Of lives and overlaps: each step passes some of them, and some not."""


class Lives:
    """Tokens in states of all kinds, and how each of their secrets stands."""

    def __init__(self, ledger: TokenLedger, luck: random.Random) -> None:
        self.ledger = ledger
        self.luck = luck
        self.secrets: list[Secret] = []

    async def live(self) -> None:
        """One token more, whose secrets are kept, good or not."""
        lifetime = self.luck.choice([None, *SPANS[1:]])
        ends_at = None if lifetime is None else now() + lifetime
        token, secret = await self.ledger.create_scim_token(
            NewScimToken(uuid4(), "Okta", ends_at), by=ADA
        )
        self.secrets.append(secret)
        if self.luck.random() < 0.7:
            overlap = self.luck.choice(SPANS)
            _, newer = await self.ledger.rotate_scim_token(token.id, overlap=overlap, by=ADA)
            self.secrets.append(newer)
            if overlap and self.luck.random() < 0.4:
                end: Callable[..., Awaitable[object]] = self.luck.choice(
                    [self.ledger.complete_rotation, self.ledger.cancel_rotation]
                )
                await end(token.id, by=ADA)
        if self.luck.random() < 0.4:
            await self.ledger.suspend_scim_token(token.id, by=ADA)
            if self.luck.random() < 0.5:
                await self.ledger.resume_scim_token(token.id, by=ADA)
        if self.luck.random() < 0.2:
            await self.ledger.revoke_scim_token(token.id, by=ADA)

    async def standing(self, ledger: TokenLedger) -> Mapping[str, str]:
        """Of each secret whether it is let in, or why not."""
        return {secret.reveal(): await _asked(ledger, secret) for secret in self.secrets}


async def _asked(ledger: TokenLedger, secret: Secret) -> str:
    try:
        await ledger.authenticate(secret, IDP)
    except TokenRefused as refusal:
        return refusal.reason
    return "good"


async def step(database: Database, seed: int) -> None:
    """Let the clock of one process step, and ask it and another one meanwhile and afterwards."""
    luck, clock = random.Random(seed), Drifting()
    async with (
        open_ledger(database.app) as sane,
        open_ledger(database.app, clock_and_ids=clock.clock_and_ids) as stepping,
        Teller(database.app, clock.clock_and_ids) as teller,
    ):
        lives = Lives(sane, luck)
        for _ in range(6):
            await lives.live()
        catch_up(database)
        standing = await lives.standing(sane)
        for clock.ahead in luck.sample(STEPS, 3):
            for ask in (lives.standing(stepping), teller.round()):
                with pytest.raises(ClockSkewed):
                    await ask
            assert await lives.standing(sane) == standing
        clock.ahead = timedelta(0)
        assert await lives.standing(stepping) == standing


@pytest.mark.long
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_step_of_a_clock_changes_which_secrets_are_good(server: str, seed: int) -> None:
    with new_database(server) as database:
        asyncio.run(step(database, seed))
        assert_consistent(database)


@pytest.mark.parametrize("ahead", [HOUR, DAY], ids=str)
def test_planted_a_ledger_that_believes_any_clock_loses_secrets(
    database: Database, ahead: timedelta
) -> None:
    """Its time is taken ahead for good, for everybody."""

    async def main() -> None:
        clock = Drifting()
        believing_any_clock(database)
        async with (
            open_ledger(database.app, clock_and_ids=CLOCK_AND_IDS) as sane,
            open_ledger(database.app, clock_and_ids=clock.clock_and_ids) as stepping,
        ):
            token, older = await sane.create_scim_token(NewScimToken(uuid4(), "Okta"), by=ADA)
            await sane.rotate_scim_token(token.id, overlap=HOUR / 2, by=ADA)
            assert await _asked(sane, older) == "good"
            clock.ahead = ahead
            await _asked(stepping, older)
            assert await _asked(sane, older) != "good"

    asyncio.run(main())

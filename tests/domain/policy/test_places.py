"""A limit of live tokens holds, however many create at once and in however many processes."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.authority import Operator
from domain.commands import CommandKey, NewScimToken
from domain.errors import PolicyViolated
from domain.ledger import TokenLedger
from domain.policy import NO_RULES, Rules
from domain.scim_token.token import ScimToken
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0

ADA = Operator(uuid4())


async def attempts(ledgers: list[TokenLedger], team: Any, number: int) -> list[ScimToken]:
    """The tokens that came of as many creations at once."""
    asked = (
        ledgers[each % len(ledgers)].create_scim_token(NewScimToken(team, f"n{each}"), by=ADA)
        for each in range(number)
    )
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(answer, PolicyViolated) for answer in refused), refused
    return [answer[0] for answer in answers if not isinstance(answer, BaseException)]


def test_of_32_creations_at_once_in_two_processes_as_many_succeed_as_there_are_places(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        team, free = uuid4(), uuid4()
        async with open_ledger(database.app) as one, open_ledger(database.app) as two:
            await one.set_policy(Rules(max_live_tokens=5), team_id=team, by=ADA)
            made, others = await asyncio.gather(
                attempts([one, two], team, 32), attempts([one, two], free, 32)
            )
            assert (len(made), len(others)) == (5, 32)
            await asyncio.gather(*(two.revoke_scim_token(made[n].id, by=ADA) for n in (0, 1)))
            assert len(await attempts([two, one], team, 8)) == 2
            await one.set_policy(NO_RULES, team_id=team, by=ADA)
            assert len(await attempts([two], team, 2)) == 2
        assert_consistent(database)

    run(main())


def test_what_has_expired_leaves_its_place_and_what_rotates_takes_one(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        clock, team = HandClock(T0), uuid4()
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            await ledger.set_policy(Rules(max_live_tokens=2), team_id=None, by=ADA)
            ends = NewScimToken(team, "ends", T0 + timedelta(hours=1))
            await ledger.create_scim_token(ends, by=ADA)
            token, _ = await ledger.create_scim_token(NewScimToken(team, "stays"), by=ADA)
            await ledger.rotate_scim_token(token.id, by=ADA)
            clock.advance(timedelta(minutes=59))
            with pytest.raises(PolicyViolated):
                await ledger.create_scim_token(NewScimToken(team, "one more"), by=ADA)
            clock.advance(timedelta(minutes=1))
            await ledger.create_scim_token(NewScimToken(team, "one more"), by=ADA)
            with pytest.raises(PolicyViolated):
                await ledger.create_scim_token(NewScimToken(team, "yet another"), by=ADA)
            assert await ledger.policy(None) == Rules(max_live_tokens=2)
            assert await ledger.policy(team) == NO_RULES

    run(main())


def test_a_repeat_is_answered_as_the_first_also_when_the_places_are_taken(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        team, key = uuid4(), CommandKey(uuid4(), b"")
        async with open_ledger(database.app) as ledger:
            await ledger.set_policy(Rules(max_live_tokens=0), team_id=team, by=ADA)
            for _ in range(2):
                with pytest.raises(PolicyViolated):
                    await ledger.create_scim_token(NewScimToken(team, "none"), by=ADA, key=key)
            await ledger.set_policy(NO_RULES, team_id=team, by=ADA)
            await ledger.create_scim_token(NewScimToken(team, "none"), by=ADA, key=key)

    run(main())


@pytest.mark.parametrize("places", [0, 1, 2])
@pytest.mark.parametrize("lifetime", [timedelta(hours=1), timedelta(hours=3), None])
def test_a_resumption_needs_a_place_where_it_makes_a_live_token_of_one(
    database: Database, run: Run, lifetime: timedelta | None, places: int
) -> None:
    async def main() -> None:
        clock, team = HandClock(T0), uuid4()
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            expires_at = None if lifetime is None else T0 + lifetime
            ask = NewScimToken(team, "suspended", expires_at)
            token, _ = await ledger.create_scim_token(ask, by=ADA)
            await ledger.suspend_scim_token(token.id, by=ADA)
            await ledger.create_scim_token(NewScimToken(team, "live"), by=ADA)
            await ledger.set_policy(Rules(max_live_tokens=places), team_id=team, by=ADA)
            clock.advance(timedelta(hours=2))
            if (expires_at is not None and expires_at <= clock.now) or places > 1:
                assert (await ledger.resume_scim_token(token.id, by=ADA)).suspended_at is None
                return
            with pytest.raises(PolicyViolated):
                await ledger.resume_scim_token(token.id, by=ADA)
        assert_consistent(database)

    run(main())

"""E10: what is accepted is answered, nothing is done for who was refused,
and no queue grows without end.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import Overloaded, StoreUnavailable
from domain.eventstore import append
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.uses import USE_TIMEOUT_S, Decision
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.secret import Secret
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.proxy import open_proxy
from tests.turns import by_turns

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
OTHER: Final = Presentation(door="nginx")


async def token(ledger: TokenLedger) -> tuple[Any, Secret]:
    return await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)


def recorded_by(ledger: TokenLedger, token_id: Any, presentation: Presentation) -> int:
    """How many uses that were presented so are in the ledger."""
    events = [r.event for r in ledger.events.get(token_id)]  # type: ignore[attr-defined]
    return sum(
        event.count for event in events if getattr(event, "presentation", None) == presentation
    )


class TestWhoWasRefused:
    def test_a_use_that_waited_in_the_queue_for_too_long_is_not_recorded(
        self, database: Database, run: Run
    ) -> None:
        """The one before it is with the database, which waits for the lock;
        this one is behind it.
        """

        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                created, secret = await token(ledger)
                with psycopg.connect(database.owner) as holder:
                    holder.execute(append.LOCK)
                    first = asyncio.create_task(ledger.authenticate(secret, IDP))
                    await asyncio.sleep(0.05)
                    with pytest.raises(StoreUnavailable):
                        await ledger.authenticate(secret, OTHER)
                with pytest.raises(StoreUnavailable):
                    await first
                assert isinstance(
                    await ledger.authenticate(secret, Presentation(door="caddy")), Decision
                )
                assert recorded_by(ledger, created.id, OTHER) == 0

        run(main())
        assert_consistent(database)

    def test_a_use_that_waited_for_a_connection_for_too_long_is_not_recorded(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with (
                open_ledger(database.app) as other,
                open_proxy(database.app) as proxy,
                open_ledger(proxy.conninfo) as ledger,
            ):
                created, secret = await token(other)
                proxy.hang()
                asked = asyncio.create_task(ledger.authenticate(secret, OTHER))
                await asyncio.sleep(USE_TIMEOUT_S + 0.15)
                assert asked.done()
                proxy.resume()
                with pytest.raises(StoreUnavailable):
                    await asked
                await ledger.authenticate(secret, IDP)
                assert recorded_by(other, created.id, OTHER) == 0
                assert recorded_by(other, created.id, IDP) == 1

        run(main())
        assert_consistent(database)


class TestTheQueue:
    def test_it_is_bounded_and_refuses_at_once(self, run: Run) -> None:
        async def main() -> None:
            under_way, go = asyncio.Event(), asyncio.Event()
            answered: list[int] = []

            async def answer(jobs: Sequence[Job[int, int]]) -> None:
                under_way.set()
                await go.wait()
                for job in jobs:
                    answered.append(job.ask)
                    job.resolve(job.ask)

            batcher: Batcher[int, int] = Batcher(answer, max_batch=2, max_queue=3)
            accepted = [batcher.submit(0, timeout_s=5)]
            await under_way.wait()
            accepted += [batcher.submit(number, timeout_s=5) for number in (1, 2, 3)]
            await asyncio.sleep(0)
            for number in (4, 5):
                with pytest.raises(Overloaded):
                    await batcher.submit(number, timeout_s=5)
            go.set()
            assert await asyncio.gather(*accepted) == [0, 1, 2, 3]
            assert await batcher.submit(6, timeout_s=5) == 6
            assert answered == [0, 1, 2, 3, 6]

        run(main())

    @pytest.mark.parametrize("lane", by_turns(["uses", "commands"], one_of=2))
    def test_each_lane_of_a_ledger_has_one(self, database: Database, run: Run, lane: str) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                _, secret = await token(ledger)

                def ask() -> Coroutine[Any, Any, Any]:
                    return ledger.authenticate(secret, IDP) if lane == "uses" else token(ledger)

                with psycopg.connect(database.owner) as holder:
                    holder.execute(append.LOCK)
                    asked = [asyncio.create_task(ask()) for _ in range(11_500)]
                    refused: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
                kinds = [type(each) for each in refused]
                assert set(kinds) <= {Overloaded, StoreUnavailable}
                assert kinds.count(Overloaded) >= 400

        run(main())


class TestClosing:
    def test_what_was_accepted_is_answered_before_it_hangs_up(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            ledger = await open_ledger(database.app).__aenter__()
            _, secret = await token(ledger)
            with psycopg.connect(database.owner) as holder:
                holder.execute(append.LOCK)
                accepted = [
                    asyncio.create_task(ask)
                    for ask in (
                        ledger.authenticate(secret, IDP),
                        token(ledger),
                        ledger.api_token_lookup.find(ledger.pepper.candidates(secret)),
                    )
                ]
                await asyncio.sleep(0.05)
                more = [
                    asyncio.create_task(ledger.authenticate(secret, OTHER)),
                    asyncio.create_task(token(ledger)),
                ]
                await asyncio.sleep(0)
                closing = asyncio.create_task(ledger.aclose())
                await asyncio.sleep(0.1)
                assert not closing.done()
            async with asyncio.timeout(10):
                await closing
                answers = await asyncio.gather(*accepted, *more)
            assert [type(answer).__name__ for answer in answers] == [
                *("Decision", "tuple", "NoneType", "Decision", "tuple")
            ]

        run(main())
        assert_consistent(database)

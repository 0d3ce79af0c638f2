"""A rotation finishes by itself: an Okta-like and an Entra-like client are never refused."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from domain.errors import NetworkNotAllowed, TokenExpired
from domain.scim_token.events import RotationFinished
from domain.secret import Secret
from projections.audit_trail import view as audit_trail
from projections.scim_tokens import view as scim_tokens
from projections.warnings.teller import Teller
from tests.conftest import Database, Run
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.test_use_contract import stored
from tests.projections.history import content, rebuilt
from tests.projections.warnings.weeks import ADA, DAY, HOUR, Weeks, weeks

MINUTE = timedelta(minutes=1)
Interruption: TypeAlias = Callable[[Weeks, UUID, Teller], Awaitable[None]]


async def finishes(w: Weeks, token_id: Any) -> list[tuple[str, Any]]:
    """Each finish of the token's rotations: its cause and when."""
    rows = w.ledger.replay(token_id)
    assert rows is not None
    async with w.ledger.reads.connection() as connection:
        found = await (
            await connection.execute(
                "SELECT convert_from(state, 'UTF8')::json ->> 'cause', at FROM ledger.events "
                "WHERE originator_id = %s AND topic = %s ORDER BY originator_version",
                [token_id, RotationFinished.topic],
            )
        ).fetchall()
    return [(cause, at) for cause, at in found]


async def call(w: Weeks, secret: Secret, span: timedelta, teller: Any) -> None:
    """A client that calls every five minutes; a round of the process after each half hour."""
    for step in range(1, span // (5 * MINUTE) + 1):
        w.clock.advance(5 * MINUTE)
        await w.use(secret)
        if step % 6 == 0:
            await w.rounds(teller)


def test_an_okta_like_client_swaps_at_once(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older = await w.create()
            w.clock.advance(7 * MINUTE)  # what is found by the hour is found at any minute of it
            await call(w, older, HOUR, teller)
            _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
            rotated_at = w.clock.now
            await call(w, newer, 6 * HOUR, teller)
            ((cause, at),) = await finishes(w, token_id)
            assert cause == "silent"
            assert 2 * HOUR + 45 * MINUTE <= at - rotated_at <= 4 * HOUR
            with pytest.raises(TokenExpired):
                await w.use(older)
            await w.use(newer)
        assert_consistent(database)

    run(main())


@pytest.mark.long
def test_an_entra_like_client_goes_on_with_the_older_one_for_a_cycle(
    database: Database, run: Run
) -> None:
    """*Test connection* sends the newer one once, a day before it is saved."""

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older = await w.create()
            _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
            await w.use(newer)
            for _ in range(36):
                w.clock.advance(40 * MINUTE)
                await w.use(older)
                await w.rounds(teller)
            assert await finishes(w, token_id) == []
            saved_at = w.clock.now
            for _ in range(12):
                w.clock.advance(40 * MINUTE)
                await w.use(newer)
                await w.rounds(teller)
            ((cause, at),) = await finishes(w, token_id)
            assert (cause, at - saved_at) == ("silent", 200 * MINUTE)
        assert_consistent(database)

    run(main())


def test_that_the_overlap_is_over_is_told_once_also_after_a_pause_and_by_two(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as one, w.teller() as other:
            token_id, older = await w.create()
            _, newer = await w.ledger.rotate_scim_token(token_id, overlap=DAY, by=ADA)
            w.clock.advance(9 * DAY)
            await w.use(newer)
            with w.followed():
                await asyncio.gather(other.round(), one.round())
            await w.live(other, DAY)
            assert [cause for cause, _ in await finishes(w, token_id)] == ["over"]
            with pytest.raises(TokenExpired):
                await w.use(older)
        assert_consistent(database)

    run(main())


def test_a_rotation_that_somebody_ended_does_not_finish(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older = await w.create()
            await w.ledger.rotate_scim_token(token_id, by=ADA)
            token = await w.ledger.cancel_rotation(token_id, by=ADA)
            assert token == await stored(w.ledger, token)
            await call(w, older, 6 * HOUR, teller)
            w.clock.advance(40 * DAY)
            await w.rounds(teller)
            assert await finishes(w, token_id) == []
            await w.use(older)
        assert_consistent(database)

    run(main())


async def is_suspended(w: Weeks, token_id: UUID, teller: Teller) -> None:
    """An incident is looked into."""
    await w.ledger.suspend_scim_token(token_id, by=ADA)
    await w.live(teller, 3 * HOUR)
    await w.ledger.resume_scim_token(token_id, by=ADA)


async def is_suspended_unseen(w: Weeks, token_id: UUID, _: Teller) -> None:
    """The same, while the process that tells is away."""
    await w.ledger.suspend_scim_token(token_id, by=ADA)
    w.clock.advance(3 * HOUR)
    await w.ledger.resume_scim_token(token_id, by=ADA)


async def is_away(w: Weeks, _: UUID, __: Teller) -> None:
    """Nobody can be let in: the database is away, or the service."""
    w.clock.advance(3 * HOUR)


async def is_away_twice(w: Weeks, token_id: UUID, teller: Teller) -> None:
    """A suspension goes on into it."""
    await w.ledger.suspend_scim_token(token_id, by=ADA)
    await w.live(teller, 2 * HOUR)
    await w.ledger.resume_scim_token(token_id, by=ADA)
    w.clock.advance(3 * HOUR)


@pytest.mark.parametrize("first", [None, "older", "newer"])
@pytest.mark.parametrize(
    "interruption", [is_suspended, is_suspended_unseen, is_away, is_away_twice]
)
def test_time_in_which_nobody_could_be_let_in_is_no_silence(
    database: Database, run: Run, interruption: Interruption, first: str | None
) -> None:
    """first: whose client comes back before the others, and before a round."""

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older = await w.create()
            _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
            for _ in range(12):
                w.clock.advance(10 * MINUTE)
                for secret in (older, newer):
                    await w.use(secret)
                    await w.rounds(teller)
            await interruption(w, token_id, teller)
            for name, secret in (("older", older), ("newer", newer)):
                if name == first:
                    await w.use(secret)
            await w.rounds(teller)
            for secret in (newer, older):
                w.clock.advance(5 * MINUTE)
                await w.use(secret)
                await w.rounds(teller)
            await call(w, newer, 6 * HOUR, teller)
            assert [cause for cause, _ in await finishes(w, token_id)] == ["silent"]
        assert_consistent(database)

    run(main())


def test_a_client_that_is_refused_elsewhere_is_not_silent(database: Database, run: Run) -> None:
    """Whoever has set the networks has forgotten where it calls from, and mends that in the
    morning.
    """
    office, cloud = "192.0.2.1", "198.51.100.1"

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older = await w.create()
            _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
            await w.use(older, source=cloud)
            await w.ledger.allow_networks(token_id, [office], by=ADA)
            for _ in range(8 * 3):
                w.clock.advance(20 * MINUTE)
                await w.use(newer, source=office)
                with pytest.raises(NetworkNotAllowed):
                    await w.use(older, source=cloud)
                await w.rounds(teller)
            await w.ledger.allow_networks(token_id, [office, cloud], by=ADA)
            await w.rounds(teller)
            await w.use(older, source=cloud)
            await call(w, newer, 6 * HOUR, teller)
            assert [cause for cause, _ in await finishes(w, token_id)] == ["silent"]
        assert_consistent(database)

    run(main())


def test_that_an_overlap_had_ended_is_told_by_the_rotation_that_follows(
    database: Database, run: Run
) -> None:
    """Before the process that tells is back."""

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, _ = await w.create()
            await w.ledger.rotate_scim_token(token_id, overlap=HOUR, by=ADA)
            await w.rounds(teller)
            w.clock.advance(2 * HOUR)
            await w.ledger.rotate_scim_token(token_id, overlap=HOUR, by=ADA)
            again_at = w.clock.now
            await w.rounds(teller, 2)
            assert await finishes(w, token_id) == [("over", again_at)]
            await w.live(teller, 2 * HOUR)
            assert [cause for cause, _ in await finishes(w, token_id)] == ["over", "over"]
            for view in (scim_tokens.PROJECTION, audit_trail.PROJECTION):
                assert rebuilt(database, view) == content(database, view)
        assert_consistent(database)

    run(main())

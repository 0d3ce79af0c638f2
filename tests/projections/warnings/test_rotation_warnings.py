"""A rotation is warned of: that it ends soon, and each day on which the older secret is used."""

import asyncio
from typing import Final
from uuid import UUID

import pytest

from domain.scim_token.warnings import OldSecretStillUsed, RotationEnding
from domain.secret import Secret, SecretId, secret_id
from projections.projection import Projection
from projections.scim_tokens import view as scim_tokens
from projections.warnings.queries import WarningQueries
from tests.conftest import Database, Run, catch_up
from tests.domain.eventstore.consistency import assert_consistent
from tests.projections.history import content, rebuilt
from tests.projections.warnings.weeks import ADA, DAY, HOUR, Told, Weeks, weeks

ABOUT_ROTATIONS: Final = (RotationEnding, OldSecretStillUsed)


async def rotating(w: Weeks) -> tuple[UUID, Secret, Secret, SecretId]:
    """A token whose rotation began a moment ago; which is its older secret."""
    token_id, older = await w.create()
    _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
    return token_id, older, newer, secret_id(w.ledger.pepper.digest(older).value)


def about(w: Weeks, token_id: UUID) -> list[Told]:
    """What was told of its rotation."""
    return [told for told in w.told(token_id) if isinstance(told.event, ABOUT_ROTATIONS)]


def test_that_a_rotation_ends_is_told_seven_days_and_a_day_before(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, _, _, older = await rotating(w)
            end = w.clock.now + 30 * DAY
            await w.live(teller, 32 * DAY, step=6 * HOUR)
            assert about(w, token_id) == [
                Told(token_id, end - days * DAY, RotationEnding(older, days, end))
                for days in (7, 1)
            ]
        assert_consistent(database)

    run(main())


@pytest.mark.long
def test_each_day_on_which_the_older_secret_is_used_is_told_once(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, secret, _, older = await rotating(w)
            began_at = w.clock.now
            for hour in range(1, 4 * 24 + 1):
                w.clock.advance(HOUR)
                if hour < 30 or hour > 70:
                    await w.use(secret)
                await w.rounds(teller)
            assert about(w, token_id) == [
                Told(token_id, at, OldSecretStillUsed(older, day, at))
                for day, at in (
                    (1, began_at + DAY),
                    (2, began_at + 71 * HOUR),
                    (3, began_at + 3 * DAY),
                    (4, began_at + 4 * DAY),
                )
            ]
        assert_consistent(database)

    run(main())


@pytest.mark.long
def test_a_client_that_was_told_the_newer_secret_at_once_is_no_news(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            token_id, older, newer, _ = await rotating(w)
            for _ in range(5):
                w.clock.advance(HOUR)
                await w.use(older)
                await w.rounds(teller)
            for _ in range(4 * 24):
                w.clock.advance(HOUR)
                await w.use(newer)
                await w.rounds(teller)
            assert about(w, token_id) == []

    run(main())


def test_after_a_week_without_a_process_what_is_true_of_rotations_is_told_once(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with weeks(database) as w:
            used, secret, _, older = await rotating(w)
            silent, silent_secret, _, _ = await rotating(w)
            end = w.clock.now + 30 * DAY
            w.clock.advance(20 * DAY)
            await w.use(silent_secret)
            for _ in range(9):
                w.clock.advance(DAY)
                await w.use(secret)
            w.clock.advance(HOUR)
            async with w.teller() as teller:
                await w.rounds(teller, 3)
            assert [told.event for told in about(w, used)] == [
                RotationEnding(older, 1, end),
                OldSecretStillUsed(older, 29, w.clock.now - HOUR),
            ]
            (told,) = about(w, silent)
            assert isinstance(told.event, RotationEnding)
            async with w.teller() as restarted:
                await w.rounds(restarted, 3)
            assert len(about(w, used)) == 2
        assert_consistent(database)

    run(main())


@pytest.mark.long
def test_two_processes_tell_nothing_of_rotations_twice(database: Database, run: Run) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as one, w.teller() as other:
            tokens = [await rotating(w) for _ in range(20)]
            w.clock.advance(29 * DAY)
            for _, secret, _, _ in tokens:
                await w.use(secret)
            with w.followed():
                for _ in range(3):
                    await asyncio.gather(one.round(), other.round())
            kinds = [[type(told.event) for told in about(w, id_)] for id_, *_ in tokens]
            assert all(
                sorted(map(str, told)) == sorted(map(str, ABOUT_ROTATIONS)) for told in kinds
            )
        assert_consistent(database)

    run(main())


def test_a_rotation_that_is_over_is_due_no_more(database: Database, run: Run) -> None:
    """Each way of ending takes it off the list of what is due, told or not."""

    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            due = WarningQueries(w.ledger.reads)
            completed, cancelled, revoked, over = [(await rotating(w))[0] for _ in range(4)]
            w.clock.advance(24 * DAY)
            catch_up(w.database)
            assert await due.due_since(w.clock.now) == w.clock.now - DAY
            assert await due.rotations_ending(w.clock.now) == {7: 4, 1: 0}
            await w.ledger.complete_rotation(completed, by=ADA)
            await w.ledger.cancel_rotation(cancelled, by=ADA)
            await w.ledger.revoke_scim_token(revoked, by=ADA)
            catch_up(w.database)
            assert await due.rotations_ending(w.clock.now) == {7: 1, 1: 0}
            w.clock.advance(7 * DAY)
            assert await due.due_since(w.clock.now) is not None
            await w.rounds(teller, 2)
            catch_up(w.database)
            assert await due.due_since(w.clock.now) is None
            assert [about(w, id_) for id_ in (completed, cancelled, revoked, over)] == 4 * [[]]

    run(main())


@pytest.mark.parametrize("view", [scim_tokens.PROJECTION])
def test_a_rebuild_makes_the_same_of_warnings_of_rotations(
    database: Database, run: Run, view: Projection
) -> None:
    async def main() -> None:
        async with weeks(database) as w, w.teller() as teller:
            _, secret, _, _ = await rotating(w)
            w.clock.advance(24 * DAY)
            await w.use(secret)
            await w.rounds(teller, 2)
            assert len(w.events()) == 3
        catch_up(database)
        before = content(database, view)
        assert rebuilt(database, view) == before

    run(main())

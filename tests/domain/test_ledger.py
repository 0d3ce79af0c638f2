"""Who may do what to which token, decided by the ledger itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.authority import Authority, Operator
from domain.commands import NewApiToken, NewScimToken
from domain.errors import (
    NotFound,
    PermissionDenied,
    Refusal,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
)
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0

TEAM, FOREIGN_TEAM = uuid4(), uuid4()
READ, WRITE = Permission.SCIM_TOKENS_READ, Permission.SCIM_TOKENS_WRITE
DAY = timedelta(days=1)


async def caller(
    ledger: TokenLedger,
    *permissions: Permission,
    teams: tuple[UUID, ...] | None = (TEAM,),
    lifetime: timedelta | None = None,
) -> ApiToken:
    token, _ = await ledger.create_api_token(NewApiToken(uuid4(), teams, permissions, lifetime))
    return token


async def refusal_of(command: Awaitable[object]) -> tuple[type[Refusal], str]:
    with pytest.raises(Refusal) as caught:
        await command
    return type(caught.value), str(caught.value)


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[tuple[TokenLedger, HandClock]]:
    clock = HandClock(T0)
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        yield ledger, clock
    assert_consistent(database)


async def create(ledger: TokenLedger, team: UUID, by: Authority) -> UUID:
    token, _ = await ledger.create_scim_token(NewScimToken(team, "Okta"), by=by)
    return token.id


def test_a_caller_with_the_permission_changes_tokens_of_its_teams_and_signs_for_it(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, _):
            by = await caller(ledger, WRITE)
            token, secret = await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=by.id)
            assert token.created_by == by.user_id
            _, newer = await ledger.rotate_scim_token(token.id, by=by.id)
            await ledger.revoke_scim_token(token.id, by=by.id)
            for each in (secret, newer):
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(each, Presentation(door="scim"))

    run(main())


@pytest.mark.parametrize("permissions", [(WRITE,), (READ,)], ids=["may write", "may only read"])
def test_a_foreign_token_and_a_missing_one_are_refused_alike(
    database: Database, run: Run, permissions: tuple[Permission, ...]
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, _):
            by = await caller(ledger, *permissions)
            foreign = await create(ledger, FOREIGN_TEAM, Operator(uuid4()))
            for command in (ledger.rotate_scim_token, ledger.revoke_scim_token):
                refusals = [await refusal_of(command(id_, by=by.id)) for id_ in (foreign, uuid4())]
                assert refusals[0] == refusals[1]
                assert refusals[0][0] is (NotFound if WRITE in permissions else PermissionDenied)

    run(main())


def test_an_api_token_is_no_scim_token(database: Database, run: Run) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, _):
            by = await caller(ledger, WRITE)
            with pytest.raises(NotFound):
                await ledger.revoke_scim_token(by.id, by=by.id)
            with pytest.raises(NotFound):
                await ledger.revoke_api_token(await create(ledger, TEAM, by.id))

    run(main())


def test_a_token_is_not_created_for_a_foreign_team_or_without_the_permission(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, _):
            writer, reader = await caller(ledger, WRITE), await caller(ledger, READ)
            with pytest.raises(NotFound):
                await create(ledger, FOREIGN_TEAM, writer.id)
            with pytest.raises(PermissionDenied):
                await create(ledger, TEAM, reader.id)

    run(main())


def test_a_caller_that_is_unknown_revoked_or_expired_is_unauthenticated(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, clock):
            id_ = await create(ledger, TEAM, Operator(uuid4()))
            revoked, expired = (
                await caller(ledger, WRITE),
                await caller(ledger, WRITE, lifetime=DAY),
            )
            await ledger.revoke_api_token(revoked.id)
            clock.advance(DAY)
            for by in (uuid4(), id_, revoked.id, expired.id):
                for command in (
                    create(ledger, TEAM, by),
                    ledger.rotate_scim_token(id_, by=by),
                    ledger.revoke_scim_token(id_, by=by),
                    ledger.revoke_scim_token(uuid4(), by=by),
                ):
                    assert (await refusal_of(command))[0] is Unauthenticated

    run(main())


def test_the_use_of_an_api_token_is_recorded_once_a_minute_and_not_once_it_is_over(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, clock):
            token = await caller(ledger, READ)
            for uses in (1, 1, 2):
                await ledger.use_api_token(token.id)
                assert ledger.replay(token.id).uses == uses
                clock.advance(timedelta(seconds=30))
            await ledger.revoke_api_token(token.id)
            with pytest.raises(Unauthenticated):
                await ledger.use_api_token(token.id)

    run(main())


def test_a_caller_is_found_by_its_secret_with_the_head_as_of_then(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with opened(database) as (ledger, _):
            token, secret = await ledger.create_api_token(NewApiToken(uuid4(), None, (READ,), None))
            _, scim_secret = await ledger.create_scim_token(
                NewScimToken(TEAM, "x"), by=Operator(uuid4())
            )
            found = await asyncio.gather(
                *(
                    ledger.api_token_lookup.find(ledger.pepper.candidates(s))
                    for s in (secret, scim_secret)
                )
            )
            assert found[0] is not None
            assert (found[0].api_token, found[0].ledger_head) == (token, 2)
            assert found[1] is None, "a SCIM token is no caller"

    run(main())


def test_what_had_expired_is_called_revoked_as_soon_as_its_token_is(database: Database) -> None:
    """That a refusal is on record is remembered for a minute; its reason may change meanwhile."""

    async def main() -> None:
        async with opened(database) as (ledger, _):
            token, secret = await ledger.create_scim_token(
                NewScimToken(TEAM, "Okta"), by=Operator(uuid4())
            )
            await ledger.rotate_scim_token(token.id, overlap=timedelta(0), by=Operator(uuid4()))
            with pytest.raises(TokenExpired):
                await ledger.authenticate(secret, Presentation(door="scim"))
            await ledger.revoke_scim_token(token.id, by=Operator(uuid4()))
            with pytest.raises(TokenRevoked):
                await ledger.authenticate(secret, Presentation(door="scim"))

    asyncio.run(main())

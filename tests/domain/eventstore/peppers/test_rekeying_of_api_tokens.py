"""After a rotation of the pepper each API token that calls is digested anew, as SCIM tokens are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.events import Created, Rekeyed
from domain.api_token.permissions import Permission
from domain.authority import ApiCall
from domain.commands import NewApiToken, NewScimToken
from domain.errors import PepperMismatch, Unauthenticated
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.lookups.api_tokens import Caller
from domain.eventstore.peppers import rekeyer
from domain.ledger import TokenLedger
from domain.secret import Secret, secret_id
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.peppers.test_rekeying import BOTH, OLD, of, rotate_pepper

ASK = NewApiToken(uuid4(), None, tuple(Permission), None)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not about the pace."""
    monkeypatch.setattr(rekeyer, "EVERY_S", 0.0)
    monkeypatch.setattr(rekeyer, "REST_S", 0.0)


@asynccontextmanager
async def rotated(database: Database) -> AsyncIterator[tuple[TokenLedger, UUID, Secret]]:
    """An API token whose secret was made under the old key, and a process that has both."""
    async with of(database, OLD) as before:
        token, secret = await before.create_api_token(ASK)
    rotate_pepper(database)
    async with of(database, BOTH) as ledger:
        yield ledger, token.id, secret


async def found(ledger: TokenLedger, secret: Secret) -> Caller:
    caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
    assert caller is not None
    return caller


async def call_until_rekeyed(ledger: TokenLedger, secret: Secret) -> None:
    async with asyncio.timeout(10):
        while (await found(ledger, secret)).digest != BOTH.digest(secret).value:
            await asyncio.sleep(0.01)


def call_of(caller: Caller) -> ApiCall:
    return ApiCall(caller.api_token.id, digests=caller.digests)


def topics(database: Database, token_id: UUID) -> list[type]:
    with psycopg.connect(database.app) as connection:
        rows = connection.execute(
            "SELECT topic, state FROM ledger.events WHERE originator_id = %s "
            "ORDER BY originator_version",
            [token_id],
        ).fetchall()
    return [type(REGISTRY.decode(topic, state)) for topic, state in rows]


def test_an_api_token_that_calls_is_digested_anew_once_by_two_processes(
    database: Database,
) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret), of(database, BOTH) as other:
            await asyncio.gather(*(call_until_rekeyed(each, secret) for each in (ledger, other)))
            assert topics(database, token_id) == [Created, Rekeyed]
            name = secret_id(OLD.digest(secret).value)
            token = await ledger.api_token(token_id)
            assert token.held == [(BOTH.digest(secret), name)]
        assert_consistent(database)
        with psycopg.connect(database.app) as connection:
            rows = connection.execute("SELECT digest, shown_as FROM ledger.secrets").fetchall()
        assert rows == [(BOTH.digest(secret).value, name)]

    asyncio.run(main())


def test_a_call_that_was_looked_up_before_is_decided_as_if_nothing_had_happened(
    database: Database,
) -> None:
    """Its command, what is recorded of it, its sign-in, and a feed that looks again after it."""

    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            before = await found(ledger, secret)
            await call_until_rekeyed(ledger, secret)
            assert before.digest != BOTH.digest(secret).value
            call = call_of(before)
            await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=call)
            await ledger.use_api_token(token_id, digests=before.digests)
            session, _ = await ledger.open_session(by=call)
            assert session.session_of == token_id
            again = await ledger.api_token_lookup.find(before.digests)
            assert again is not None
            assert again.is_good

    asyncio.run(main())


def test_a_secret_whose_overlap_is_over_stays_refused_and_as_it_is(database: Database) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            _, newer = await ledger.rotate_api_token(token_id, overlap=timedelta(0))
            caller = await found(ledger, secret)
            await asyncio.sleep(0.05)
            assert not caller.is_good
            assert (await found(ledger, secret)).digest == OLD.digest(secret).value
            with pytest.raises(Unauthenticated):
                await ledger.open_session(by=call_of(caller))
            assert (await found(ledger, newer)).is_good
        assert_consistent(database)

    asyncio.run(main())


def test_what_ends_the_token_ends_it_under_its_new_digest(database: Database) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            await call_until_rekeyed(ledger, secret)
            await ledger.revoke_api_token(token_id)
            assert not (await found(ledger, secret)).is_good
        assert_consistent(database)

    asyncio.run(main())


def test_both_secrets_of_a_rotation_are_digested_anew(database: Database) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, older = await before.create_api_token(ASK)
            _, newer = await before.rotate_api_token(token.id, overlap=timedelta(days=1))
        rotate_pepper(database)
        async with of(database, BOTH) as ledger:
            for secret in (older, newer):
                await call_until_rekeyed(ledger, secret)
            token = await ledger.api_token(token.id)
            assert token.held == [
                (BOTH.digest(secret), secret_id(OLD.digest(secret).value))
                for secret in (older, newer)
            ]
        assert_consistent(database)

    asyncio.run(main())


def test_none_is_within_the_hour_and_a_process_that_lacks_the_key_says_503(
    database: Database,
) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            _, secret = await before.create_api_token(ASK)
            rotate_pepper(database, ago=rekeyer.GRACE - timedelta(minutes=1))
            async with of(database, BOTH) as ledger:
                for _ in range(5):
                    await found(ledger, secret)
                    await asyncio.sleep(0.02)
                assert (await found(before, secret)).is_good
                rotate_pepper(database, ago=rekeyer.GRACE)
                await call_until_rekeyed(ledger, secret)
            with pytest.raises(PepperMismatch, match="restart it with all"):
                await found(before, secret)

    asyncio.run(main())

"""After a rotation of the pepper each secret that is used is digested anew, once, behind the door's
answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import PepperMismatch, TokenExpired, TokenRevoked, TokenUnknown
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.peppers import rekeyer
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation, Rekeyed, Revoked, ScimTokenEvent, Used
from domain.secret import Pepper, Secret, secret_id
from tests.conftest import CLOCK_AND_IDS, Database
from tests.domain.eventstore.consistency import assert_consistent

OLD: Final = Pepper([b"a" * 32])
BOTH: Final = Pepper([b"a" * 32, b"b" * 32])
IDP: Final = Presentation(door="scim")
BY: Final = Operator(uuid4())


def of(database: Database, pepper: Pepper) -> TokenLedger:
    return TokenLedger(database.app, pepper=pepper, clock_and_ids=CLOCK_AND_IDS)


def rotate_pepper(database: Database, *, ago: timedelta = timedelta(hours=2)) -> None:
    """The ledger learns of both keys, and `ago` is when it did."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        record_pepper(owner, BOTH)
        owner.execute("UPDATE ledger.pepper_generations SET recorded_at = recorded_at - %s", [ago])
        owner.execute(
            "UPDATE ledger.migrations SET applied_at = applied_at - %s", [timedelta(days=1)]
        )


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not about the pace."""
    monkeypatch.setattr(rekeyer, "EVERY_S", 0.0)
    monkeypatch.setattr(rekeyer, "REST_S", 0.0)


@asynccontextmanager
async def rotated(database: Database) -> AsyncIterator[tuple[TokenLedger, UUID, Secret]]:
    """A token whose secret was made under the old key, and a process that has both."""
    async with of(database, OLD) as before:
        token, secret = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
    rotate_pepper(database)
    async with of(database, BOTH) as ledger:
        yield ledger, token.id, secret


def events(database: Database, token_id: UUID) -> list[ScimTokenEvent]:
    with psycopg.connect(database.app) as connection:
        rows = connection.execute(
            "SELECT topic, state FROM ledger.events WHERE originator_id = %s "
            "ORDER BY originator_version",
            [token_id],
        ).fetchall()
    found = [REGISTRY.decode(topic, state) for topic, state in rows]
    assert all(isinstance(event, ScimTokenEvent) for event in found)
    return found  # type: ignore[return-value]


def generations(database: Database, token_id: UUID) -> list[int]:
    state = assert_consistent(database)[token_id]
    return [held.digest.key_generation for held in state.secrets]  # type: ignore[attr-defined]


async def use_until_rekeyed(ledger: TokenLedger, token_id: UUID, secret: Secret) -> None:
    digest = BOTH.digest(secret)
    async with asyncio.timeout(10):
        while True:
            await ledger.authenticate(secret, IDP)
            token = await ledger.scim_token(token_id)
            if digest in {held.digest for held in token.secrets}:
                return
            await asyncio.sleep(0.01)


def test_a_secret_that_is_used_is_digested_anew_once(database: Database) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            await use_until_rekeyed(ledger, token_id, secret)
            for _ in range(3):
                await ledger.authenticate(secret, IDP)
            name = secret_id(OLD.digest(secret).value)
            told = events(database, token_id)
            assert [event for event in told if isinstance(event, Rekeyed)] == [
                Rekeyed(secret=name, digest=BOTH.digest(secret))
            ]
            uses = [event.secret for event in told if isinstance(event, Used)]
            assert len(uses) >= 4
            assert set(uses) == {name}, "it is called as at first, whichever digest found it"
        assert generations(database, token_id) == [2]
        with psycopg.connect(database.app) as connection:
            rows = connection.execute(
                "SELECT digest, good_until = 'infinity', shown_as FROM ledger.secrets"
            ).fetchall()
        assert rows == [(BOTH.digest(secret).value, True, name)]

    asyncio.run(main())


def test_while_it_is_digested_anew_it_is_never_refused(database: Database) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret), of(database, BOTH) as other:
            async with asyncio.timeout(10):
                while generations(database, token_id) != [2]:
                    ways = [Presentation(door=door) for door in ("scim", "nginx", "envoy")]
                    await asyncio.gather(
                        *(one.authenticate(secret, way) for one in (ledger, other) for way in ways)
                    )
            await asyncio.gather(*(ledger.authenticate(secret, IDP) for _ in range(20)))
        told = [type(event) for event in events(database, token_id)]
        assert told.count(Rekeyed) == 1, "two processes, one event"

    asyncio.run(main())


@pytest.mark.parametrize("ago", [timedelta(0), rekeyer.GRACE - timedelta(minutes=1)])
def test_none_is_within_the_hour_in_which_processes_are_restarted(
    database: Database, ago: timedelta
) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, secret = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            rotate_pepper(database, ago=ago)
            async with of(database, BOTH) as ledger:
                for _ in range(5):
                    await ledger.authenticate(secret, IDP)
                    await asyncio.sleep(0.02)
                    await before.authenticate(secret, IDP)
        assert generations(database, token.id) == [1]

    asyncio.run(main())


def test_nor_within_an_hour_of_a_migration(database: Database) -> None:
    """A process of the release before could not read the event."""

    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            with psycopg.connect(database.owner, autocommit=True) as owner:
                owner.execute("UPDATE ledger.migrations SET applied_at = now() WHERE number = 1")
            for _ in range(5):
                await ledger.authenticate(secret, IDP)
                await asyncio.sleep(0.02)
            assert generations(database, token_id) == [1]

    asyncio.run(main())


def test_a_process_that_lacks_the_key_by_then_says_503_and_not_401(database: Database) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, secret = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            rotate_pepper(database)
            async with of(database, BOTH) as ledger:
                await use_until_rekeyed(ledger, token.id, secret)
            for question in (before.authenticate(secret, IDP), before.burn_scim_token(secret)):
                with pytest.raises(PepperMismatch, match="restart it with all"):
                    await question

    asyncio.run(main())


End = Callable[[TokenLedger, UUID, Secret], Awaitable[object]]
ENDS: Final[dict[str, tuple[End, type[Exception]]]] = {
    "revoked": (lambda ledger, id_, _: ledger.revoke_scim_token(id_, by=BY), TokenRevoked),
    "burnt": (lambda ledger, _, secret: ledger.burn_scim_token(secret), TokenRevoked),
    "rotated": (
        lambda ledger, id_, _: ledger.rotate_scim_token(id_, overlap=timedelta(0), by=BY),
        TokenExpired,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_secret_ends_it_under_its_new_digest(database: Database, end: str) -> None:
    do, refusal = ENDS[end]

    async def main() -> None:
        async with rotated(database) as (ledger, token_id, secret):
            await use_until_rekeyed(ledger, token_id, secret)
            await do(ledger, token_id, secret)
            with pytest.raises(refusal):
                await ledger.authenticate(secret, IDP)
            assert isinstance(events(database, token_id)[-1], ScimTokenEvent)
        assert_consistent(database)

    asyncio.run(main())


async def appends_wait(owner: psycopg.AsyncConnection, count: int) -> None:
    """Until so many wait for the append lock."""
    async with asyncio.timeout(10):
        while True:
            cursor = await owner.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
                "WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted"
            )
            if await cursor.fetchone() == (count,):
                return
            await asyncio.sleep(0.01)


def test_a_burn_that_looked_the_secret_up_before_burns_it(database: Database) -> None:
    async def main() -> None:
        async with (
            rotated(database) as (ledger, token_id, secret),
            of(database, BOTH) as other,
            await psycopg.AsyncConnection.connect(database.owner) as owner,
        ):
            await owner.execute("SELECT ledger.lock_appends()")
            candidates = BOTH.candidates(secret)
            anew = rekeyer.Rekeyer(other.gate, other.reads, BOTH, new_id=uuid4)
            anew.note(token_id, candidates, candidates[-1])
            await appends_wait(owner, 1)
            burning = asyncio.create_task(ledger.burn_scim_token(secret))
            await appends_wait(owner, 2)
            await owner.rollback()
            await burning
            with pytest.raises(TokenRevoked):
                await ledger.authenticate(secret, IDP)
            kinds = [type(event) for event in events(database, token_id)]
            assert kinds[1:3] == [Rekeyed, Revoked]

    asyncio.run(main())


def test_an_unknown_secret_is_unknown_under_both_keys(database: Database) -> None:
    async def main() -> None:
        async with rotated(database) as (ledger, _, _), of(database, BOTH):
            _, other = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            assert (await ledger.authenticate(other, IDP)).use_id is not None
            with pytest.raises(TokenUnknown):
                await ledger.authenticate(Secret("x", other.kind), IDP)

    asyncio.run(main())


def test_a_process_that_ends_before_its_turn_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(rekeyer, "EVERY_S", 60.0)
        async with rotated(database) as (ledger, token_id, secret):
            await ledger.authenticate(secret, IDP)
        assert generations(database, token_id) == [1]
        monkeypatch.setattr(rekeyer, "EVERY_S", 0.0)
        async with of(database, BOTH) as next_one:
            await use_until_rekeyed(next_one, token_id, secret)
        assert generations(database, token_id) == [2]

    asyncio.run(main())


def test_both_secrets_of_a_rotation_are_digested_anew_and_end_as_they_would(
    database: Database,
) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, older = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            _, newer = await before.rotate_scim_token(token.id, overlap=timedelta(days=1), by=BY)
        rotate_pepper(database)
        async with of(database, BOTH) as ledger:
            for secret in (older, newer):
                await use_until_rekeyed(ledger, token.id, secret)
            held = (await ledger.scim_token(token.id)).secrets
            assert [one.id for one in held] == [
                secret_id(OLD.digest(secret).value) for secret in (older, newer)
            ]
            assert held[0].overlap_until is not None
            assert held[1].overlap_until is None
        assert generations(database, token.id) == [2, 2]

    asyncio.run(main())

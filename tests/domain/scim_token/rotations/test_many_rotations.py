"""B11: a token that was rotated thousands of times costs a command no more than
one that never was.
"""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import TokenExpired, TokenRevoked
from domain.eventstore import aggregates
from domain.scim_token.events import Presentation
from domain.scim_token.held_secret import HeldSecret
from domain.scim_token.token import ScimToken
from domain.secret import Secret
from projections.ledger_check import check_ledger
from tests.conftest import PEPPER, Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0

SCIM: Final = Presentation(door="scim")
BY: Final = Operator(uuid4())
ROTATIONS: Final = 60


def written(database: Database) -> set[tuple[bytes, int]]:
    """The rows of secrets, each with the transaction that wrote it last."""
    with psycopg.connect(database.owner) as connection:
        return set(
            connection.execute("SELECT digest, xmin::text::bigint FROM ledger.secrets").fetchall()
        )


async def rotate_often(database: Database) -> tuple[UUID, list[Secret]]:
    """A token of many rotations, half a minute apart, each with an overlap of that length."""
    clock = HandClock(T0)
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        token, secret = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
        secrets = [secret]
        for _ in range(ROTATIONS):
            clock.now += timedelta(seconds=30)
            _, secret = await ledger.rotate_scim_token(
                token.id, overlap=timedelta(seconds=30), by=BY
            )
            secrets.append(secret)
        return token.id, secrets


@pytest.fixture
def rotated(database: Database) -> Iterator[tuple[UUID, list[Secret]]]:
    yield asyncio.run(rotate_often(database))
    assert_consistent(database)
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None


def test_a_command_writes_the_rows_of_three_secrets_at_most(
    database: Database, rotated: tuple[UUID, list[Secret]]
) -> None:
    token_id, secrets = rotated
    clock = HandClock(T0 + ROTATIONS * timedelta(seconds=30) + timedelta(seconds=10))

    async def main() -> None:
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            before = written(database)
            state, _ = await ledger.rotate_scim_token(token_id, overlap=timedelta(0), by=BY)
            assert len(state.secrets) <= 3
            assert len(before) == len(secrets)
            assert len(written(database) - before) <= 4
            before = written(database)
            await ledger.revoke_scim_token(token_id, by=BY)
            assert len(written(database) - before) <= 4

    asyncio.run(main())


def test_each_secret_of_the_past_stays_refused_and_known(
    database: Database, rotated: tuple[UUID, list[Secret]]
) -> None:
    token_id, (*old, just_over, before, newest) = rotated
    clock = HandClock(T0 + ROTATIONS * timedelta(seconds=30))

    async def main() -> None:
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            for secret in (before, newest):
                assert (await ledger.authenticate(secret, SCIM)).token_id == token_id
            for secret in old:
                with pytest.raises(TokenExpired):
                    await ledger.authenticate(secret, SCIM)
                await ledger.burn_scim_token(secret)
            await ledger.authenticate(newest, SCIM)
            await ledger.revoke_scim_token(token_id, by=BY)
            for secret in (just_over, before, newest):
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(secret, SCIM)
            for secret in old:
                with pytest.raises(TokenExpired):
                    await ledger.authenticate(secret, SCIM)

    asyncio.run(main())


def test_a_state_that_an_earlier_release_stored_is_read_as_this_one_folds(
    database: Database, rotated: tuple[UUID, list[Secret]]
) -> None:
    """It held every secret that there ever was;
    `verify` of the fixture finds it good all the same.
    """
    token_id, secrets = rotated
    step = timedelta(seconds=30)
    ends = [T0 + number * step for number in range(2, ROTATIONS + 2)]
    held = [
        HeldSecret(PEPPER.digest(secret), end)
        for secret, end in zip(secrets, [*ends, None], strict=True)
    ]
    with psycopg.connect(database.owner) as connection:
        row = connection.execute("SELECT state FROM ledger.aggregates").fetchone()
        assert row is not None
        state = msgspec.json.decode(row[0], type=ScimToken)
        held[-len(state.secrets) :] = state.secrets
        stored = aggregates.encode_state(msgspec.structs.replace(state, secrets=tuple(held)))
        connection.execute("UPDATE ledger.aggregates SET state = %s", [stored])
    clock = HandClock(T0 + ROTATIONS * step + timedelta(seconds=10))

    async def main() -> None:
        async with open_ledger(
            believing_any_clock(database), clock_and_ids=clock.clock_and_ids
        ) as ledger:
            state = await ledger.scim_token(token_id)
            assert len(state.secrets) == 3

    asyncio.run(main())

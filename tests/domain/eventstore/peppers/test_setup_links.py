"""A setup link is made under the newest key of the pepper, and is found under each."""

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.commands import NewScimToken
from domain.errors import NotFound, PepperMismatch
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.eventstore.peppers.newer_keys import GOOD_FOR_S
from domain.ledger import TokenLedger
from domain.setup_link import SetupCode, mint_code
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.peppers.test_rekeying import BOTH, BY, OLD, of


async def linked(ledger: TokenLedger) -> tuple[UUID, SetupCode]:
    token, _ = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
    after, code = await ledger.create_setup_link(token.id, by=BY)
    assert after.setup_link is not None
    assert after.setup_link.key_generation == ledger.pepper.generation
    return token.id, code


async def shown(ledger: TokenLedger, link: tuple[UUID, SetupCode]) -> str:
    await ledger.open_setup_link(*link)
    _, secret = await ledger.reveal_by_setup_link(*link, source=None, user_agent=None)
    return secret.reveal()


def test_a_rotation_of_the_pepper_ends_no_link_and_a_newer_one_is_not_said_to_be_missing(
    database: Database,
) -> None:
    async def main() -> None:
        async with of(database, OLD) as running, of(database, BOTH) as new:
            before = await linked(running)
            unknown = before[0], mint_code(bytes(32))
            with pytest.raises(NotFound):
                await running.open_setup_link(*unknown)
            with psycopg.connect(database.app) as connection:
                record_pepper(connection, BOTH)
            after = await linked(new)
            await asyncio.sleep(GOOD_FOR_S)
            for link in (after, unknown):
                with pytest.raises(PepperMismatch, match="restart it with all"):
                    await running.open_setup_link(*link)
                with pytest.raises(PepperMismatch, match="restart it with all"):
                    await shown(running, link)
            with pytest.raises(NotFound):
                await new.open_setup_link(*unknown)
            assert await shown(new, before)
            assert await shown(new, after)
        assert_consistent(database)

    with psycopg.connect(database.app) as connection:
        record_pepper(connection, OLD)
    asyncio.run(main())

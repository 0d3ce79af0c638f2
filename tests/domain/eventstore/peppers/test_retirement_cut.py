"""A retirement that is cut off at any statement holds nobody up for long; a repeat finishes it."""

import asyncio
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from domain.commands import NewScimToken
from domain.errors import Unavailable
from domain.eventstore.peppers import rekeyer
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.eventstore.peppers.remaining import count_digests
from domain.ledger import TokenLedger
from domain.postgres.connection import open_connection
from domain.secret import Secret
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.peppers.test_rekeying import (
    BOTH,
    BY,
    IDP,
    OLD,
    of,
    rotate_pepper,
    use_until_rekeyed,
)
from tests.domain.eventstore.peppers.test_retirement import retire_on
from tests.faults.proxy import Fault, ProxyThread, proxy_thread
from tests.stopwatch import Stopwatch
from tests.turns import by_turns

UNDER_LOCK: Final = (
    "UPDATE ledger.pepper_generations",
    "SELECT set_config(name, '3s",
    "SELECT DISTINCT originator_id",
    "WITH stored AS",
    "COMMIT",
)
"""Some of each statement that comes behind the append lock, the first and the last among them."""
HELD_UP_MAX_S: Final = 6.0
"""A session may be silent for 3 s; the use that is under way then may take half a second."""


def retire(conninfo: str) -> None:
    with open_connection(conninfo, is_autocommit=False) as owner:
        retire_on(owner)


async def held_up_s(ledger: TokenLedger, secret: Secret) -> float:
    """How long it takes until somebody is let in."""
    watch = Stopwatch()
    while watch.read_s() < 3 * HELD_UP_MAX_S:
        try:
            await ledger.authenticate(secret, IDP)
        except Unavailable:
            continue
        break
    return watch.read_s()


async def strike(proxy: ProxyThread, fault: Fault, text: str) -> "asyncio.Task[None]":
    """A retirement on whose way this happens; it has."""
    proxy.tell(lambda each: each.strike(fault, text))
    command = asyncio.create_task(asyncio.to_thread(retire, proxy.conninfo))
    async with asyncio.timeout(10):
        while not proxy.fired:
            await asyncio.sleep(0.01)
    return command


@pytest.mark.parametrize("text", by_turns(UNDER_LOCK, one_of=5))
@pytest.mark.parametrize("fault", list(Fault))
def test_whoever_is_cut_off_while_it_holds_the_append_lock_lets_go_of_it(
    database: Database, fault: Fault, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeyer, "EVERY_S", 0.0)
    monkeypatch.setattr(rekeyer, "REST_S", 0.0)

    async def main() -> None:
        async with of(database, OLD) as before:
            token, secret = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
        rotate_pepper(database)
        async with of(database, BOTH) as ledger:
            await use_until_rekeyed(ledger, token.id, secret)
            with proxy_thread(database.owner) as proxy:
                command = await strike(proxy, fault, text)
                assert await held_up_s(ledger, secret) < HELD_UP_MAX_S
                proxy.tell(lambda each: each.forget())
                with pytest.raises(psycopg.Error):
                    await command
            await asyncio.to_thread(retire, database.owner)
            await ledger.authenticate(secret, IDP)

    with psycopg.connect(database.app) as connection:
        if fault is Fault.STUCK and connection.info.server_version < 170_000:
            pytest.skip("before PostgreSQL 17 only keep-alives tell it that a client is gone")
        record_pepper(connection, OLD)
    asyncio.run(main())
    with psycopg.connect(database.app) as connection:
        assert [one.retired_at is None for one in count_digests(connection)] == [False, True]
    assert_consistent(database)

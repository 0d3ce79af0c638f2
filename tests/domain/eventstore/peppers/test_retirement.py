"""A key is retired once nobody could be let in under it, whatever runs meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from threading import Thread
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.commands import NewApiToken, NewScimToken
from domain.errors import PepperMismatch, TokenRevoked, TokenUnknown
from domain.event import Actor
from domain.eventstore.ledger_clock import SKEWED
from domain.eventstore.peppers import rekeyer, retirement
from domain.eventstore.peppers.fingerprints import record_pepper, require_pepper
from domain.eventstore.peppers.remaining import count_digests
from domain.eventstore.peppers.retirement import retire_key
from domain.keyring.retirement import NotRetirable
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.secret import Pepper, SecretKind, mint
from tests.conftest import CLOCK_AND_IDS, Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.peppers.test_rekeying import (
    BOTH,
    BY,
    OLD,
    appends_wait,
    of,
    rotate_pepper,
    use_until_rekeyed,
)
from tests.turns import by_turns

WITHOUT: Final = Pepper([None, b"b" * 32])
IDP: Final = Presentation(door="scim")
OPERATOR: Final = Actor(user_id=None, api_token_id=None, operator="root@db1")
CALLER: Final = NewApiToken(uuid4(), None, tuple(Permission), None)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not about the pace."""
    monkeypatch.setattr(rekeyer, "EVERY_S", 0.0)
    monkeypatch.setattr(rekeyer, "REST_S", 0.0)


def retire(
    database: Database,
    generation: int = 1,
    *,
    clock: Callable[[], datetime] = CLOCK_AND_IDS.clock,
) -> None:
    with psycopg.connect(database.owner) as owner:
        retire_on(owner, generation, clock=clock)


def retire_on(
    owner: psycopg.Connection[Any],
    generation: int = 1,
    *,
    clock: Callable[[], datetime] = CLOCK_AND_IDS.clock,
) -> None:
    retire_key(
        owner,
        generation,
        by=OPERATOR,
        reason="yearly",
        clock=clock,
        command_id=uuid4(),
    )


def run(database: Database, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with psycopg.connect(database.app) as connection:
        record_pepper(connection, OLD)
    asyncio.run(main())
    assert_consistent(database)


async def suspend(ledger: TokenLedger) -> UUID:
    token, _ = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
    await ledger.suspend_scim_token(token.id, by=BY)
    return token.id


async def let_go(ledger: TokenLedger) -> UUID:
    """The older secret of a rotation, whose newer one is made under the same key and ended."""
    token, _ = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
    await ledger.rotate_scim_token(token.id, overlap=timedelta(days=1), by=BY)
    return token.id


async def signed_up(ledger: TokenLedger) -> UUID:
    token, _ = await ledger.create_api_token(CALLER)
    return token.id


async def linked(ledger: TokenLedger) -> UUID:
    token, _ = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
    await ledger.create_setup_link(token.id, by=BY)
    return token.id


@pytest.mark.parametrize("need", by_turns([suspend, let_go, signed_up, linked], one_of=4))
def test_whatever_could_be_let_in_keeps_the_key(
    database: Database, need: Callable[[TokenLedger], Coroutine[Any, Any, UUID]]
) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            held = await need(before)
        rotate_pepper(database)
        with pytest.raises(NotRetirable, match=str(held)):
            await asyncio.to_thread(retire, database)
        async with of(database, BOTH) as ledger:
            if need is signed_up:
                await ledger.revoke_api_token(held)
            else:
                await ledger.revoke_scim_token(held, by=BY)
        await asyncio.to_thread(retire, database)

    run(database, main)


def test_a_link_that_is_all_that_is_left_keeps_the_key_until_it_has_shown_its_secret(
    database: Database,
) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, secret = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            _, code = await before.create_setup_link(token.id, by=BY)
        rotate_pepper(database)
        async with of(database, BOTH) as ledger:
            await use_until_rekeyed(ledger, token.id, secret)
            with pytest.raises(NotRetirable, match=f"setup link {token.id}"):
                await asyncio.to_thread(retire, database)
            await ledger.reveal_by_setup_link(token.id, code, source=None, user_agent=None)
            await asyncio.to_thread(retire, database)

    run(database, main)


def test_afterwards_the_doors_answer_alike_with_and_without_the_key(database: Database) -> None:
    """But for a secret that ended long ago: without its key it is unknown."""

    async def main() -> None:
        async with of(database, OLD) as before:
            token, known = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            ended, over = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            await before.revoke_scim_token(ended.id, by=BY)
        rotate_pepper(database)
        unknown = mint(SecretKind.SCIM_LIVE, bytes(32))
        async with of(database, BOTH) as ledger:
            await use_until_rekeyed(ledger, token.id, known)
            await asyncio.to_thread(retire, database)
            async with of(database, WITHOUT) as without:
                for each in (ledger, without):
                    assert (await each.authenticate(known, IDP)).token_id == token.id
                    with pytest.raises(TokenUnknown):
                        await each.authenticate(unknown, IDP)
                    made, secret = await each.create_scim_token(
                        NewScimToken(uuid4(), "Okta"), by=BY
                    )
                    for other in (ledger, without):
                        assert (await other.authenticate(secret, IDP)).token_id == made.id
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(over, IDP)
                with pytest.raises(TokenUnknown):
                    await without.authenticate(over, IDP)
        with psycopg.connect(database.app) as connection:
            oldest, newest = count_digests(connection)
        assert (oldest.scim_tokens, newest.scim_tokens) == (0, 3)
        assert oldest.retired_at is not None
        assert newest.retired_at is None

    run(database, main)


def test_a_process_that_lacks_the_newest_key_makes_nothing_under_a_retired_one(
    database: Database,
) -> None:
    async def main() -> None:
        async with of(database, OLD) as stale:
            await stale.time()
            rotate_pepper(database)
            token, _ = await stale.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            caller, _ = await stale.create_api_token(CALLER)
            for end in (
                stale.revoke_scim_token(token.id, by=BY),
                stale.revoke_api_token(caller.id),
            ):
                await end
            await asyncio.to_thread(retire, database)
            async with of(database, WITHOUT) as ledger:
                held, secret = await ledger.create_scim_token(NewScimToken(uuid4(), "x"), by=BY)
                questions: list[Coroutine[Any, Any, object]] = [
                    stale.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY),
                    stale.create_api_token(CALLER),
                    stale.rotate_scim_token(held.id, overlap=timedelta(0), by=BY),
                    stale.create_setup_link(held.id, by=BY),
                ]
                for question in questions:
                    with pytest.raises(PepperMismatch, match="retired: restart it with every key"):
                        await question
                await stale.revoke_scim_token(held.id, by=BY)
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(secret, IDP)

    run(database, main)


@pytest.mark.parametrize("is_first", [True, False])
def test_of_a_secret_that_is_being_made_and_a_retirement_one_is_refused(
    database: Database, is_first: bool
) -> None:
    """The one that comes second, under the append lock."""

    async def main() -> None:
        async with (
            of(database, OLD) as stale,
            await psycopg.AsyncConnection.connect(database.owner) as owner,
        ):
            await stale.time()
            rotate_pepper(database)
            await owner.execute("SELECT ledger.lock_appends()")
            refused: list[Exception] = []

            def retirement() -> None:
                try:
                    retire(database)
                except NotRetirable as error:
                    refused.append(error)

            retiring = Thread(target=retirement)
            if is_first:
                retiring.start()
                await appends_wait(owner, 1)
            making = asyncio.create_task(
                stale.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
            )
            if is_first:
                await appends_wait(owner, 2)
            else:
                await appends_wait(owner, 1)
                retiring.start()
                await appends_wait(owner, 2)
            await owner.rollback()
            (made,) = await asyncio.gather(making, return_exceptions=True)
            await asyncio.to_thread(retiring.join)
            assert [isinstance(made, PepperMismatch), len(refused)] == [is_first, not is_first]

    run(database, main)


def test_a_retirement_while_secrets_are_used_and_digested_anew_leaves_each_good(
    database: Database,
) -> None:
    """It is tried again until the last one has moved; nobody is refused meanwhile."""

    async def main() -> None:
        async with of(database, OLD) as before:
            made = [
                await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
                for _ in range(5)
            ]
        rotate_pepper(database)
        done = asyncio.Event()

        async def use(ledger: TokenLedger) -> None:
            while not done.is_set():
                for _, secret in made:
                    await ledger.authenticate(secret, IDP)

        async def retire_when_possible() -> None:
            async with asyncio.timeout(20):
                while True:
                    try:
                        await asyncio.to_thread(retire, database)
                    except NotRetirable:
                        continue
                    break
            await asyncio.sleep(0.1)
            done.set()

        async with of(database, BOTH) as one, of(database, BOTH) as other:
            await asyncio.gather(use(one), use(other), retire_when_possible())
        async with of(database, WITHOUT) as without:
            for _, secret in made:
                await without.authenticate(secret, IDP)

    run(database, main)


def test_what_ended_by_a_command_needs_the_key_no_more_at_once(database: Database) -> None:
    async def main() -> None:
        async with of(database, OLD) as before:
            token, _ = await before.create_scim_token(NewScimToken(uuid4(), "Okta"), by=BY)
        rotate_pepper(database)
        async with of(database, BOTH) as ledger:
            await ledger.rotate_scim_token(token.id, overlap=timedelta(0), by=BY)
            await asyncio.to_thread(retire, database)

    run(database, main)


def test_under_the_lock_no_state_is_read_but_of_what_changed(database: Database) -> None:
    asked = {"generation": 1, "after": CLOCK_AND_IDS.clock(), "among": [uuid4()]}
    with psycopg.connect(database.owner) as owner:
        owner.execute("SET enable_seqscan = off")
        rows = owner.execute(b"EXPLAIN " + retirement.HOLDERS_AMONG.encode(), asked).fetchall()
    plan = "\n".join(line for (line,) in rows)
    assert "aggregates_pkey" in plan
    assert "digests_in_force" not in plan


def test_it_is_done_once_and_never_to_the_newest(database: Database) -> None:
    rotate_pepper(database)
    for _ in range(2):
        retire(database)
    with pytest.raises(NotRetirable, match="the newest"):
        retire(database, 2)
    with psycopg.connect(database.app) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM ledger.events WHERE topic = 'pepper.retired.v1'"
        ).fetchall()
    assert rows == [(1,)]
    assert_consistent(database)


def test_the_app_role_retires_nothing(database: Database) -> None:
    rotate_pepper(database)
    with (
        psycopg.connect(database.app) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        retire_key(
            connection,
            1,
            by=OPERATOR,
            reason="x",
            clock=CLOCK_AND_IDS.clock,
            command_id=uuid4(),
        )
    with psycopg.connect(database.app) as connection:
        assert require_pepper(connection, BOTH) == 2
        with pytest.raises(PepperMismatch, match="generation 1 is missing"):
            require_pepper(connection, WITHOUT)


@pytest.mark.parametrize("ahead", [timedelta(days=-40), timedelta(days=40)], ids=str)
def test_by_a_clock_that_disagrees_with_the_databases_no_key_is_retired(
    database: Database, ahead: timedelta
) -> None:
    """By a database that is ahead every secret would be over."""
    with psycopg.connect(database.app) as connection:
        record_pepper(connection, OLD)
        record_pepper(connection, BOTH)
    with pytest.raises(psycopg.Error) as refusal:
        retire(database, clock=lambda: CLOCK_AND_IDS.clock() + ahead)
    assert refusal.value.sqlstate == SKEWED
    with psycopg.connect(database.app) as connection:
        assert [each.retired_at for each in count_digests(connection)] == [None, None]
    assert_consistent(database)

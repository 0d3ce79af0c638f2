"""A reply that never arrives: perhaps it happened, perhaps not.

One command, one effect, either way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import product
from typing import Final, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import CommandKey, NewScimToken
from domain.errors import NotFound, SecretAlreadyShown, StoreUnavailable, TokenExpired, TokenRevoked
from domain.ledger import TokenLedger
from domain.scim_token.events import Created, Presentation, Revoked, Rotated, Used
from domain.scim_token.token import ScimToken
from domain.secret import Secret
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.proxy import Fault, Proxy, open_proxy
from tests.patience import patient
from tests.stopwatch import Stopwatch
from tests.turns import by_turns

__all__ = [
    "patient"
]  # a lost connection is noticed at once; what a wait costs is another test's matter

T = TypeVar("T")
TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
COMMIT: Final = "COMMIT"
USES: Final = "record_uses"
COMMAND_DEADLINE_S: Final = 2.0
USE_DEADLINE_S: Final = 0.5
LOADED_S: Final = 0.5
"""What a busy machine adds to a bound: our own loop may be late."""


async def create(ledger: TokenLedger, key: CommandKey | None = None) -> tuple[ScimToken, Secret]:
    return await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)


def new_key() -> CommandKey:
    return CommandKey(uuid4(), b"what is asked")


def topics(database: Database) -> list[str]:
    """Of every stored event, in order, after checking that all else agrees with them."""
    assert_consistent(database)
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute(
            "SELECT topic FROM ledger.events ORDER BY notification_id"
        ).fetchall()
    return [topic for (topic,) in rows]


def use_ids(database: Database) -> set[UUID]:
    """The command id of every use in the ledger."""
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute(
            "SELECT command_id FROM ledger.events WHERE topic = %s", [Used.topic]
        )
        return {id_ for (id_,) in rows}


async def unavailable_within(deadline_s: float, answer: Awaitable[object]) -> None:
    watch = Stopwatch()
    with pytest.raises(StoreUnavailable):
        await answer
    assert watch.read_s() < deadline_s + LOADED_S


async def until_answered(ask: Callable[[], Awaitable[T]]) -> T | SecretAlreadyShown:
    """What a patient caller does: the same command again, until something is known."""
    while True:
        try:
            return await ask()
        except SecretAlreadyShown as shown:
            return shown
        except StoreUnavailable:
            continue


async def use_or_none(ledger: TokenLedger, secret: Secret) -> UUID | None:
    """The id of the recorded use; None when the store could not say."""
    try:
        return (await ledger.authenticate(secret, IDP)).use_id
    except StoreUnavailable:
        return None


class TestTheReplyOfTheCommitIsLost:
    """The second try of the gate finds the command id and answers what the first one did."""

    @pytest.mark.parametrize(
        ("fault", "has_key"),
        by_turns(product([Fault.REPLY_LOST, Fault.NEVER_SENT], [False, True]), one_of=3),
    )
    def test_a_creation_has_one_effect_and_its_secret_works(
        self, database: Database, run: Run, fault: Fault, *, has_key: bool
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                proxy.strike(fault, COMMIT)
                token, secret = await create(ledger, new_key() if has_key else None)
                assert proxy.fired == 1
                assert (await ledger.authenticate(secret, IDP)).token_id == token.id

        run(main())
        assert topics(database) == [Created.topic, Used.topic]

    @pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.NEVER_SENT])
    def test_a_rotation_has_one_effect_and_its_secret_works(
        self, database: Database, run: Run, fault: Fault
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, old = await create(ledger)
                proxy.strike(fault, COMMIT)
                rotated, new = await ledger.rotate_scim_token(
                    token.id, overlap=timedelta(0), by=ADA
                )
                assert (proxy.fired, rotated.version) == (1, 2)
                assert (await ledger.authenticate(new, IDP)).token_id == token.id
                with pytest.raises(TokenExpired):
                    await ledger.authenticate(old, IDP)

        run(main())
        assert topics(database)[:3] == [Created.topic, Rotated.topic, Used.topic]

    @pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.NEVER_SENT])
    def test_a_revocation_has_one_effect(self, database: Database, run: Run, fault: Fault) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, secret = await create(ledger)
                proxy.strike(fault, COMMIT)
                await ledger.revoke_scim_token(token.id, by=ADA)
                assert proxy.fired == 1
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(secret, IDP)

        run(main())
        assert topics(database)[:2] == [Created.topic, Revoked.topic]

    def test_every_command_of_the_batch_has_one_effect_and_refusals_stay_refusals(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, _ = await create(ledger)
                proxy.strike(Fault.REPLY_LOST, COMMIT)
                *created, revoked, missing = await asyncio.gather(
                    *(create(ledger) for _ in range(20)),
                    ledger.revoke_scim_token(token.id, by=ADA),
                    ledger.revoke_scim_token(uuid4(), by=ADA),
                    return_exceptions=True,
                )
                assert (proxy.fired, revoked, type(missing)) == (1, None, NotFound)
                pairs = [
                    pair
                    for pair in created
                    if not isinstance(pair, BaseException) and pair is not None
                ]
                assert len({token.id for token, _ in pairs}) == 20
                await asyncio.gather(*(ledger.authenticate(secret, IDP) for _, secret in pairs))

        run(main())
        assert topics(database) == [Created.topic] * 21 + [Revoked.topic] + [Used.topic] * 20


class TestBothTriesAreLost:
    """The caller is told that nothing is known, in time, and may safely repeat."""

    @pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.NEVER_SENT])
    def test_a_creation_repeated_by_its_caller_has_one_effect(
        self, database: Database, run: Run, fault: Fault
    ) -> None:
        async def main() -> None:
            key = new_key()
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                proxy.strike(fault, COMMIT, times=2)
                await unavailable_within(COMMAND_DEADLINE_S, create(ledger, key))
                assert proxy.fired == 2
                if fault is Fault.NEVER_SENT:
                    await create(ledger, key)
                with pytest.raises(SecretAlreadyShown) as caught:
                    await create(ledger, key)
            (state,) = assert_consistent(database).values()
            assert caught.value.originator_id == state.id

        run(main())
        assert topics(database) == [Created.topic]

    def test_a_rotation_repeated_by_its_caller_has_one_effect(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            key = new_key()
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, _ = await create(ledger)
                proxy.strike(Fault.REPLY_LOST, COMMIT, times=2)
                await unavailable_within(
                    COMMAND_DEADLINE_S, ledger.rotate_scim_token(token.id, by=ADA, key=key)
                )
                with pytest.raises(SecretAlreadyShown):
                    await ledger.rotate_scim_token(token.id, by=ADA, key=key)

        run(main())
        assert topics(database) == [Created.topic, Rotated.topic]

    def test_a_revocation_repeated_by_its_caller_has_one_effect(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, _ = await create(ledger)
                proxy.strike(Fault.REPLY_LOST, COMMIT, times=2)
                await unavailable_within(
                    COMMAND_DEADLINE_S, ledger.revoke_scim_token(token.id, by=ADA)
                )
                await ledger.revoke_scim_token(token.id, by=ADA)

        run(main())
        assert topics(database) == [Created.topic, Revoked.topic]

    def test_two_callers_with_one_key_get_one_secret_between_them(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            key = new_key()
            async with (
                open_proxy(database.app) as proxy,
                open_ledger(proxy.conninfo) as one,
                open_ledger(database.app) as other,
            ):
                proxy.strike(Fault.REPLY_LOST, COMMIT)
                outcomes = await asyncio.gather(
                    create(one, key), create(other, key), create(one, key), return_exceptions=True
                )
                assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 1
                assert sum(isinstance(outcome, SecretAlreadyShown) for outcome in outcomes) == 2

        run(main())
        assert topics(database) == [Created.topic]


class TestTheReplyOfAUseIsLost:
    """Fail closed: no record that we know of, no yes. And no second record to find out."""

    @pytest.mark.parametrize(("fault", "recorded"), [(Fault.REPLY_LOST, 1), (Fault.NEVER_SENT, 0)])
    def test_the_secret_is_refused_and_recorded_at_most_once(
        self, database: Database, run: Run, fault: Fault, recorded: int
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                _, secret = await create(ledger)
                await ledger.authenticate(secret, IDP)
                proxy.strike(fault, USES)
                await unavailable_within(USE_DEADLINE_S, ledger.authenticate(secret, IDP))
                assert (proxy.fired, len(use_ids(database))) == (1, 1 + recorded)
                decision = await ledger.authenticate(secret, IDP)
                assert decision.use_id in use_ids(database)

        run(main())
        assert topics(database) == [Created.topic] + [Used.topic] * (2 + recorded)

    def test_a_command_whose_reply_is_lost_takes_no_use_with_it(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                _, secret = await create(ledger)
                await ledger.authenticate(secret, IDP)
                proxy.strike(Fault.REPLY_LOST, COMMIT)
                decision, _ = await asyncio.gather(ledger.authenticate(secret, IDP), create(ledger))
                assert proxy.fired == 1
                assert decision.use_id in use_ids(database)

        run(main())
        assert sorted(topics(database)) == [Created.topic] * 2 + [Used.topic] * 2

    def test_a_refusal_of_a_revoked_secret_does_not_become_a_yes(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
                token, secret = await create(ledger)
                await ledger.revoke_scim_token(token.id, by=ADA)
                proxy.strike(Fault.REPLY_LOST, COMMIT)  # of the event that records the refusal
                with pytest.raises(TokenRevoked):
                    await ledger.authenticate(secret, IDP)
                assert proxy.fired == 1

        run(main())
        assert topics(database) == [Created.topic, Revoked.topic, "scim_token.refused.v1"]


class TestEveryBorder:
    """One life of a token, its connection lost at each message in turn."""

    async def _life(self, ledger: TokenLedger) -> tuple[UUID, list[UUID | None]]:
        """Each command repeated until it is answered: the token, and the uses that were let in."""
        keys = new_key(), new_key()
        created = await until_answered(lambda: create(ledger, keys[0]))
        if isinstance(created, SecretAlreadyShown):
            token_id, uses = created.originator_id, []
        else:
            token_id, secret = created[0].id, created[1]
            uses = [await use_or_none(ledger, secret) for _ in range(2)]
        await until_answered(lambda: ledger.rotate_scim_token(token_id, by=ADA, key=keys[1]))
        await until_answered(lambda: ledger.revoke_scim_token(token_id, by=ADA))
        return token_id, [use for use in uses if use is not None]

    async def _struck(self, database: Database, proxy: Proxy, fault: Fault, skip: int) -> int:
        fired = proxy.fired
        async with open_ledger(proxy.conninfo) as ledger:
            proxy.strike(fault, skip=skip)
            token_id, uses = await self._life(ledger)
        state = assert_consistent(database)[token_id]
        assert isinstance(state, ScimToken)
        assert state.revoked_at is not None
        assert len(state.secrets) == 2
        assert set(uses) <= use_ids(database)
        assert len(uses) <= state.uses <= 2
        return proxy.fired - fired

    @pytest.mark.long
    @pytest.mark.parametrize(
        "fault", [Fault.REPLY_LOST, pytest.param(Fault.NEVER_SENT, marks=pytest.mark.slow)]
    )
    def test_wherever_the_connection_is_lost_each_command_has_one_effect(
        self, database: Database, run: Run, fault: Fault
    ) -> None:
        async def main() -> None:
            skip = 0
            async with open_proxy(database.app) as proxy:
                while await self._struck(database, proxy, fault, skip):
                    skip += 1
            assert skip > 20, "the walk has fewer messages than we believe: nothing was struck"

        run(main())
        # Nothing but the walks' own tokens: no lost try left another one behind.
        assert topics(database).count(Created.topic) == topics(database).count(Revoked.topic)

"""The append gate on a real database: groups, repeats, poison, merged uses, ledger time."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import CommandKey, NewApiToken, NewScimToken
from domain.errors import (
    CommandIdReused,
    RotatedTooSoon,
    SecretAlreadyShown,
    StoreUnavailable,
    TokenExpired,
    TokenRevoked,
    TokenUnknown,
)
from domain.event import Actor, Changes, States
from domain.eventstore import append
from domain.eventstore.command_batch import Command, Outcome
from domain.eventstore.uses import Decision
from domain.ledger import TokenLedger
from domain.scim_token import events as scim_token
from domain.scim_token.events import Presentation
from domain.scim_token.token import ScimToken
from domain.secret import Digest, Pepper, Secret, SecretKind, mint
from tests.conftest import TESTS_KEY, Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")


async def create(
    ledger: TokenLedger, *, key: CommandKey | None = None, expires_at: datetime | None = None
) -> tuple[ScimToken, Secret]:
    return await ledger.create_scim_token(NewScimToken(TEAM, "Okta", expires_at), by=ADA, key=key)


def command(
    decide: Callable[[States, datetime], Changes],
    *,
    id_: UUID | None = None,
    originator_id: UUID | None = None,
    request: bytes = b"",
) -> Command:
    originator_id = originator_id or uuid4()
    return Command(
        id=id_ or uuid4(),
        attempt=uuid4(),
        originator_id=originator_id,
        reads=frozenset({originator_id}),
        request=request,
        decide=decide,
    )


def creation(*, id_: UUID | None = None, request: bytes = b"", name: str = "Okta") -> Command:
    originator_id = uuid4()
    event = scim_token.Created(
        team_id=TEAM,
        name=name,
        created_by=Actor(uuid4(), None),
        digest=Digest(originator_id.bytes * 2, 1),
        expires_at=None,
    )
    return command(
        lambda _states, _at: [(originator_id, [event])],
        id_=id_,
        originator_id=originator_id,
        request=request,
    )


def select(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.owner) as connection:
        return connection.execute(statement).fetchall()


class TestGroupCommit:
    def test_creations_in_parallel_share_commits_and_are_all_stored(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                created = await asyncio.gather(*(create(ledger) for _ in range(100)))
            assert len({token.id for token, _ in created}) == 100
            assert len({secret.reveal() for _, secret in created}) == 100
            assert max(ledger.gate.batch_sizes) > 1
            assert sum(ledger.gate.batch_sizes) == 100
            assert assert_consistent(database) == {token.id: token for token, _ in created}

        run(main())
        assert [
            id_
            for (id_,) in select(database, "SELECT notification_id FROM ledger.events ORDER BY 1")
        ] == [*range(1, 101)]
        ((commits,),) = select(database, "SELECT count(DISTINCT xmin::text) FROM ledger.events")
        assert commits < 100

    def test_two_processes_append_to_one_dense_order(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as one, open_ledger(database.app) as other:
                _, secret = await create(one)
                await asyncio.gather(
                    *(create(ledger) for ledger in (one, other) * 20),
                    *(ledger.authenticate(secret, IDP) for ledger in (one, other) * 20),
                )

        run(main())
        assert_consistent(database)
        ids = [
            id_
            for (id_,) in select(database, "SELECT notification_id FROM ledger.events ORDER BY 1")
        ]
        assert ids == [*range(1, len(ids) + 1)]

    def test_a_command_sees_what_the_ones_before_it_in_its_batch_did(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                token, secret = await create(ledger)
                rotations = await asyncio.gather(
                    *(ledger.rotate_scim_token(token.id, by=ADA) for _ in range(5)),
                    return_exceptions=True,
                )
                (rotated,) = (found for found in rotations if isinstance(found, tuple))
                assert [type(found) for found in rotations if found is not rotated] == [
                    RotatedTooSoon
                ] * 4
                revocations = [ledger.revoke_scim_token(token.id, by=ADA) for _ in range(5)]
                await asyncio.gather(*revocations)
                for held in (secret, rotated[1]):
                    with pytest.raises(TokenRevoked):
                        await ledger.authenticate(held, IDP)

        run(main())
        assert_consistent(database)
        topics = "SELECT topic, count(*) FROM ledger.events GROUP BY topic"
        assert dict(select(database, topics)) == {
            "scim_token.created.v1": 1,
            "scim_token.rotated.v1": 1,
            "scim_token.revoked.v1": 1,
            "scim_token.refused.v1": 1,
        }


class TestGivenUp:
    def test_a_command_whose_caller_gave_up_while_the_lock_was_held_changes_nothing(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                await create(ledger)
                with psycopg.connect(database.owner) as holder:
                    holder.execute(append.LOCK)
                    patient = asyncio.create_task(ledger.gate.execute(creation(name="patient")))
                    with pytest.raises(StoreUnavailable):
                        await ledger.gate.execute(creation(name="given up"), timeout_s=0.05)
                assert isinstance(await patient, Outcome)

        run(main())
        names = select(
            database, "SELECT convert_from(state, 'utf8')::jsonb ->> 'name' FROM ledger.events"
        )
        assert names == [("Okta",), ("patient",)]


class TestPoison:
    def test_a_command_that_breaks_fails_alone(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                token, secret = await create(ledger)

                def breaks(_states: States, _at: datetime) -> Changes:
                    raise ValueError("broken")

                second_start = scim_token.Created(
                    team_id=TEAM,
                    name="again",
                    created_by=Actor(uuid4(), None),
                    digest=Digest(bytes(32), 1),
                    expires_at=None,
                )
                revoked = scim_token.Revoked(revoked_by=None, reason=None)
                poison = [
                    command(breaks),
                    # its first event could be folded, its second cannot: none is stored
                    command(
                        lambda _states, _at: [(token.id, [revoked, second_start])],
                        originator_id=token.id,
                    ),
                    creation(name="half \ud83d"),
                ]
                outcomes = await asyncio.gather(
                    create(ledger),
                    *(ledger.gate.execute(each) for each in poison),
                    ledger.authenticate(secret, IDP),
                    create(ledger),
                    return_exceptions=True,
                )
                assert [type(outcome) for outcome in outcomes] == [
                    tuple,
                    ValueError,
                    AssertionError,
                    UnicodeEncodeError,
                    Decision,
                    tuple,
                ]
                assert list(ledger.gate.batch_sizes) == [1, 5], "they were to be in one batch"
                await ledger.authenticate(secret, IDP)

        run(main())
        assert len(assert_consistent(database)) == 3


class TestRepeats:
    def test_a_command_repeated_at_once_has_one_effect(self, database: Database, run: Run) -> None:
        async def main() -> None:
            id_ = uuid4()
            async with open_ledger(database.app) as one, open_ledger(database.app) as other:
                commands = [creation(id_=id_) for _ in range(6)]
                outcomes = await asyncio.gather(
                    *(
                        ledger.gate.execute(c)
                        for ledger, c in zip((one, other) * 3, commands, strict=True)
                    )
                )
                (effect,) = [outcome for outcome in outcomes if not outcome.is_repeat]
                assert {outcome.originator_id for outcome in outcomes} == {effect.originator_id}
                assert effect.originator_id in {c.originator_id for c in commands}

        run(main())
        assert len(assert_consistent(database)) == 1

    def test_a_command_repeated_later_has_one_effect(self, database: Database, run: Run) -> None:
        async def main() -> None:
            key = CommandKey(uuid4(), b"request")
            async with open_ledger(database.app) as ledger:
                token, _ = await create(ledger, key=key)
                with pytest.raises(SecretAlreadyShown) as caught:
                    await create(ledger, key=key)
                assert caught.value.originator_id == token.id
            async with open_ledger(database.app) as after_a_restart:
                with pytest.raises(SecretAlreadyShown):
                    await create(after_a_restart, key=key)

        run(main())
        assert len(assert_consistent(database)) == 1

    def test_the_same_attempt_again_is_the_one_that_had_the_effect(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            first = creation()
            async with open_ledger(database.app) as ledger:
                outcomes = [await ledger.gate.execute(first) for _ in range(2)]
            assert [outcome.is_repeat for outcome in outcomes] == [False, False]
            assert {outcome.originator_id for outcome in outcomes} == {first.originator_id}
            assert outcomes[0].state == outcomes[1].state

        run(main())
        assert len(assert_consistent(database)) == 1

    def test_a_repeated_rotation_adds_one_secret(self, database: Database, run: Run) -> None:
        async def main() -> None:
            key = CommandKey(uuid4(), b"request")
            async with open_ledger(database.app) as ledger:
                token, _ = await create(ledger)
                await ledger.rotate_scim_token(token.id, by=ADA, key=key)
                with pytest.raises(SecretAlreadyShown) as caught:
                    await ledger.rotate_scim_token(token.id, by=ADA, key=key)
                assert caught.value.originator_id == token.id

        run(main())
        (state,) = assert_consistent(database).values()
        assert len(state.secret_rows()) == 2

    def test_the_same_id_with_another_request_is_refused(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            id_ = uuid4()
            async with open_ledger(database.app) as ledger:
                await ledger.gate.execute(creation(id_=id_, request=b"one"))
                with pytest.raises(CommandIdReused):
                    await ledger.gate.execute(creation(id_=id_, request=b"other"))
                together = uuid4()
                outcomes = await asyncio.gather(
                    *(
                        ledger.gate.execute(creation(id_=together, request=r))
                        for r in (b"one", b"other")
                    ),
                    return_exceptions=True,
                )
                assert [type(outcome) for outcome in outcomes] == [Outcome, CommandIdReused]

        run(main())
        assert len(assert_consistent(database)) == 2

    def test_a_refused_command_may_be_given_again(self, database: Database, run: Run) -> None:
        async def main() -> None:
            id_ = uuid4()

            def breaks(_states: States, _at: datetime) -> Changes:
                raise ValueError("broken")

            async with open_ledger(database.app) as ledger:
                with pytest.raises(ValueError, match="broken"):
                    await ledger.gate.execute(command(breaks, id_=id_))
                outcome = await ledger.gate.execute(creation(id_=id_))
                assert not outcome.is_repeat

        run(main())

    @pytest.mark.parametrize(
        ("age", "is_repeat"),
        [(timedelta(hours=24) - timedelta(milliseconds=1), True), (timedelta(hours=24), False)],
    )
    def test_a_command_counts_for_a_day(
        self, database: Database, run: Run, age: timedelta, *, is_repeat: bool
    ) -> None:
        async def main() -> None:
            clock, id_ = HandClock(T0), uuid4()
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                await ledger.gate.execute(creation(id_=id_))
                with psycopg.connect(database.owner) as owner:
                    owner.execute("UPDATE ledger.commands SET at = %s", [T0 - age])
                request = b"" if is_repeat else b"another"
                first, last = (creation(id_=id_, request=request) for _ in range(2))
                outcomes = [await ledger.gate.execute(each) for each in (first, first, last)]
            assert [outcome.is_repeat for outcome in outcomes] == [is_repeat, is_repeat, True]
            assert len({outcome.originator_id for outcome in outcomes}) == 1

        run(main())
        assert_consistent(database)


class TestUses:
    def test_uses_of_one_secret_by_one_presentation_merge_and_none_is_lost(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            other = Presentation(door="nginx", source="192.0.2.7")
            async with open_ledger(database.app) as ledger:
                token, secret = await create(ledger)
                decisions = await asyncio.gather(
                    *(ledger.authenticate(secret, how) for how in (IDP, IDP, other) * 20),
                    create(ledger),
                )
                assert {d.token_id for d in decisions if isinstance(d, Decision)} == {token.id}
                for _ in range(3):
                    await ledger.authenticate(secret, IDP)
                state = ledger.replay(token.id)
                assert (state.uses, state.version) == (63, 1 + 2 + 3)
                events = [r.event for r in ledger.events.get(token.id)]  # type: ignore[attr-defined]
                uses = [event for event in events if isinstance(event, scim_token.Used)]
                assert [(use.count, use.presentation) for use in uses] == [
                    (40, IDP),
                    (20, other),
                    *[(1, IDP)] * 3,
                ]

        run(main())
        assert_consistent(database)

    def test_each_answer_names_the_event_that_holds_its_use(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                token, secret = await create(ledger)
                decision = await ledger.authenticate(secret, IDP)
                assert (decision.token_id, decision.team_id) == (token.id, TEAM)
                *_, last = ledger.events.get(token.id)
                assert (decision.use_id, decision.at) == (last.command_id, last.at)  # type: ignore[attr-defined]

        run(main())

    def test_a_revocation_that_was_answered_is_seen_by_every_process(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as one, open_ledger(database.app) as other:
                token, secret = await create(one)
                await other.authenticate(secret, IDP)
                await one.revoke_scim_token(token.id, by=ADA)
                with pytest.raises(TokenRevoked):
                    await other.authenticate(secret, IDP)

        run(main())
        assert_consistent(database)

    def test_good_revoked_expired_and_unknown_secrets_of_one_batch_are_told_apart(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            clock = HandClock(T0)
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                _, good = await create(ledger)
                over, revoked = await create(ledger)
                _, expired = await create(ledger, expires_at=T0 + timedelta(hours=1))
                unknown = mint(SecretKind.SCIM_LIVE, bytes(32))
                await ledger.revoke_scim_token(over.id, by=ADA)
                clock.advance(timedelta(hours=1))
                outcomes = await asyncio.gather(
                    *(ledger.authenticate(s, IDP) for s in (unknown, revoked, good, expired)),
                    return_exceptions=True,
                )
                assert [type(o) for o in outcomes] == [
                    TokenUnknown,
                    TokenRevoked,
                    Decision,
                    TokenExpired,
                ]

        run(main())
        assert_consistent(database)

    def test_an_api_token_opens_no_scim_door(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                api_token = NewApiToken(uuid4(), None, (Permission.SCIM_TOKENS_READ,), None)
                _, secret = await ledger.create_api_token(api_token)
                for ask in (ledger.authenticate(secret, IDP), ledger.burn_scim_token(secret)):
                    with pytest.raises(TokenUnknown):
                        await ask

        run(main())
        assert_consistent(database)

    def test_a_refused_secret_is_recorded_once_a_minute(self, database: Database, run: Run) -> None:
        async def main() -> None:
            clock = HandClock(T0)
            async with open_ledger(
                believing_any_clock(database), clock_and_ids=clock.clock_and_ids
            ) as ledger:
                token, secret = await create(ledger)
                await ledger.revoke_scim_token(token.id, by=ADA)
                for expected in (3, 3, 4):
                    with pytest.raises(TokenRevoked):
                        await ledger.authenticate(secret, IDP)
                    assert ledger.replay(token.id).version == expected
                    clock.advance(timedelta(seconds=30))

        run(main())
        assert_consistent(database)

    def test_what_another_process_recorded_counts_from_when_that_was(
        self, database: Database, run: Run
    ) -> None:
        """E11: a process that finds it recorded does not begin a minute of its own."""

        async def main() -> None:
            clock = HandClock(T0)
            conninfo = believing_any_clock(database)
            async with (
                open_ledger(conninfo, clock_and_ids=clock.clock_and_ids) as one,
                open_ledger(conninfo, clock_and_ids=clock.clock_and_ids) as other,
            ):
                token, secret = await create(one)
                await one.revoke_scim_token(token.id, by=ADA)
                versions = []
                for ledger, later in ((one, 0), (other, 50), (other, 11)):
                    clock.advance(timedelta(seconds=later))
                    with pytest.raises(TokenRevoked):
                        await ledger.authenticate(secret, IDP)
                    versions.append(one.replay(token.id).version)
                assert versions == [3, 3, 4]

        run(main())
        assert_consistent(database)

    def test_a_secret_from_before_the_pepper_was_rotated_is_let_in(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger:
                _, old = await create(ledger)
                ledger.pepper = Pepper([TESTS_KEY.encode(), b"k" * 32])
                _, new = await create(ledger)
                decisions = await asyncio.gather(
                    *(ledger.authenticate(s, IDP) for s in (old, new, old))
                )
                assert decisions[0].token_id == decisions[2].token_id != decisions[1].token_id

        run(main())
        assert sorted(state.uses for state in assert_consistent(database).values()) == [1, 2]

"""What is chosen when many tokens are revoked at once, as the ledger judges it."""

import asyncio
from datetime import timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import CommandKey, NewApiToken, NewScimToken
from domain.errors import CommandIdReused, NotFound, PermissionDenied
from domain.ledger import TokenLedger
from domain.policy import NO_RULES, Rules, most_days
from domain.scim_token.conditions import LongestLives, TokenConditions
from domain.scim_token.events import Presentation, Revoked
from domain.scim_token.values import ENDLESS_DAYS
from domain.secret import Secret
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.scenario import (
    ADA,
    MILLISECOND,
    T0,
    T1,
    T2,
    TEAM_ID,
    TOKEN_ID,
    created,
    given,
    refused,
    revoked,
    rotated,
    state_after,
    used,
)

DAY = timedelta(days=1)
ADA_AT_WORK = Operator(ADA.user_id)
OTHERS = TokenConditions(ids=frozenset({uuid4()}))


class TestConditions:
    @pytest.mark.parametrize(
        "where",
        [
            TokenConditions(team_id=TEAM_ID),
            TokenConditions(created_by=ADA.user_id),
            TokenConditions(ids=frozenset({uuid4(), TOKEN_ID})),
            TokenConditions(created_before=T0 + MILLISECOND),
            TokenConditions(unused_since=T1 + MILLISECOND),
            TokenConditions(violates_policy=True, longest_lives=LongestLives(36_500)),
            TokenConditions(violates_policy=True, longest_lives=LongestLives(own={TEAM_ID: 1})),
            TokenConditions(
                team_id=TEAM_ID,
                created_by=ADA.user_id,
                ids=frozenset({TOKEN_ID}),
                created_before=T1,
                unused_since=T2,
            ),
        ],
        ids=["team", "creator", "id", "creation", "last use", "policy", "own policy", "all"],
    )
    def test_a_token_is_chosen(self, where: TokenConditions) -> None:
        assert where.are_given
        assert where.hold_for(state_after(created(T0), used(T1), rotated(T1), refused(T2)))

    @pytest.mark.parametrize(
        "where",
        [
            TokenConditions(team_id=uuid4()),
            TokenConditions(created_by=uuid4()),
            OTHERS,
            TokenConditions(created_before=T0),
            TokenConditions(unused_since=T1),
            TokenConditions(unused_since=T0),
            TokenConditions(team_id=TEAM_ID, unused_since=T1),
            TokenConditions(violates_policy=True),
            TokenConditions(violates_policy=True, longest_lives=LongestLives(own={uuid4(): 1})),
        ],
        ids=[
            *("team", "creator", "id", "creation", "used at it", "used after it", "one of two"),
            *("no policy", "another team's policy"),
        ],
    )
    def test_a_token_is_left_alone(self, where: TokenConditions) -> None:
        assert not where.hold_for(state_after(created(T0), used(T1)))

    def test_a_token_that_was_not_there_yet_is_not_unused_since(self) -> None:
        assert not TokenConditions(unused_since=T0).hold_for(state_after(created(T0)))
        assert TokenConditions(unused_since=T1).hold_for(state_after(created(T0)))

    def test_a_token_that_has_expired_is_chosen_and_a_revoked_one_is_not(self) -> None:
        where = TokenConditions(team_id=TEAM_ID)
        assert where.hold_for(state_after(created(T0, expires_at=T1)))
        assert not where.hold_for(state_after(created(T0), revoked(T1)))

    def test_no_condition_is_told_from_some(self) -> None:
        assert not TokenConditions().are_given


def test_a_revocation_names_its_cause() -> None:
    cause = UUID(int=9)
    given(created(), used()).when(
        lambda token: token.revoke(by=ADA, reason="unused", cause=cause)
    ).records(Revoked(revoked_by=ADA, reason="unused", cause=cause))
    given(created(), revoked()).when(
        lambda token: token.revoke(by=ADA, reason=None, cause=cause)
    ).stays_silent()


async def make(ledger: TokenLedger, team: UUID = TEAM_ID) -> tuple[UUID, Secret]:
    token, secret = await ledger.create_scim_token(NewScimToken(team, "Okta"), by=Operator(uuid4()))
    return token.id, secret


def test_what_was_used_since_it_was_chosen_is_left_alone(database: Database, run: Run) -> None:
    """The view chose all three; the ledger looks again, where no use comes in between."""

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            (unused, _), (used_, secret), (gone, _) = [await make(ledger) for _ in range(3)]
            since = await ledger.time() + MILLISECOND
            while await ledger.time() < since:
                await asyncio.sleep(0.001)
            await ledger.authenticate(secret, Presentation(door="scim"))
            await ledger.revoke_scim_token(gone, by=Operator())
            cause, ids = uuid4(), [unused, used_, gone, uuid4()]
            counts = [
                await ledger.revoke_scim_tokens(
                    ids,
                    TokenConditions(unused_since=since),
                    by=Operator(),
                    reason="unused",
                    cause=cause,
                )
                for _ in range(2)
            ]
            assert counts == [1, 0]
            assert [(await ledger.scim_token(id_)).revoked_at is None for id_ in ids[:3]] == [
                False,
                True,
                False,
            ]

    run(main())
    assert_consistent(database)


LIVES = {"endless": None, "200 days": 200 * DAY, "50 days": 50 * DAY}
RULES = (NO_RULES, Rules(expiry_required=True), *(Rules(max_lifetime_days=n) for n in (90, 300)))


def test_a_policy_is_judged_as_it_is_when_the_tokens_are_revoked(
    database: Database, run: Run
) -> None:
    """The view chose by policies that were in force before: each pair of them stands for what
    somebody was answered meanwhile, before the commit.
    """

    async def made(ledger: TokenLedger, team: UUID) -> dict[str, UUID]:
        now = await ledger.time()
        asked = {
            name: NewScimToken(team, name, None if life is None else now + life)
            for name, life in LIVES.items()
        }
        return {
            name: (await ledger.create_scim_token(ask, by=ADA_AT_WORK))[0].id
            for name, ask in asked.items()
        }

    async def main() -> None:
        chosen = TokenConditions(violates_policy=True, longest_lives=LongestLives(1))
        async with open_ledger(database.app) as ledger:
            for general, own in product(RULES, RULES):
                await ledger.set_policy(NO_RULES, team_id=None, by=ADA_AT_WORK)
                team, other = uuid4(), uuid4()
                of = {each: await made(ledger, each) for each in (team, other)}
                await ledger.set_policy(general, team_id=None, by=ADA_AT_WORK)
                await ledger.set_policy(own, team_id=team, by=ADA_AT_WORK)
                ids = [id_ for tokens in of.values() for id_ in tokens.values()]
                await ledger.revoke_scim_tokens(
                    ids, chosen, by=ADA_AT_WORK, reason=None, cause=uuid4()
                )
                for each, holding in ((team, (general, own)), (other, (general,))):
                    most = min(map(most_days, holding))
                    for name, life in LIVES.items():
                        days = ENDLESS_DAYS if life is None else life.days
                        token = await ledger.scim_token(of[each][name])
                        is_revoked = token.revoked_at is not None
                        assert is_revoked == (days > most), (general, own, name)

    run(main())
    assert_consistent(database)


def test_a_foreign_token_among_those_chosen_stops_all_of_the_commit(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            (own, _), (foreign, _) = await make(ledger), await make(ledger, uuid4())
            caller, _ = await ledger.create_api_token(
                NewApiToken(uuid4(), (TEAM_ID,), (Permission.SCIM_TOKENS_WRITE,), None)
            )
            with pytest.raises(NotFound):
                await ledger.revoke_scim_tokens(
                    [own, foreign],
                    TokenConditions(ids=frozenset({own, foreign})),
                    by=caller.id,
                    reason=None,
                    cause=uuid4(),
                )
            assert (await ledger.scim_token(own)).revoked_at is None

    run(main())


def test_a_request_is_about_the_tokens_of_when_it_came_first(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            key = CommandKey(uuid4(), b"asked")
            began = await ledger.begin_revocations(by=Operator(), key=key)
            await make(ledger)
            assert await ledger.begin_revocations(by=Operator(), key=key) == began
            with pytest.raises(CommandIdReused):
                await ledger.begin_revocations(by=Operator(), key=CommandKey(key.id, b"other"))
            reader, _ = await ledger.create_api_token(
                NewApiToken(uuid4(), None, (Permission.SCIM_TOKENS_READ,), None)
            )
            with pytest.raises(PermissionDenied):
                await ledger.begin_revocations(by=reader.id, key=CommandKey(uuid4(), b""))

    run(main())

"""A token is revoked only if nobody uses it: decided where uses are ordered, so none is missed."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import InvalidValue, TokenRevoked, UsedSince
from domain.ledger import TokenLedger
from domain.scim_token import rotation
from domain.scim_token.events import Created, Presentation, Revoked, Rotated, ScimTokenEvent
from domain.scim_token.token import ScimToken
from tests.conftest import Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.scenario import (
    ADA,
    FIRST,
    MILLISECOND,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    TEAM_ID,
    created,
    given,
    revoked,
    used,
)

ANOTHER_ZONE = timezone(timedelta(hours=5, minutes=30))
RACES = 30


def revoke(unused_since: datetime) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: token.revoke(by=ADA, reason=None, unused_since=unused_since)


class TestUnusedSince:
    def test_a_token_that_was_never_used_is_revoked(self) -> None:
        given(created()).when(revoke(T0)).records(Revoked(revoked_by=ADA, reason=None))

    @pytest.mark.parametrize("unused_since", [T2 + MILLISECOND, T3, T3.astimezone(ANOTHER_ZONE)])
    def test_a_token_that_was_last_used_before_the_instant_is_revoked(
        self, unused_since: datetime
    ) -> None:
        given(created(), used(T1), used(T2)).when(revoke(unused_since)).records(
            Revoked(revoked_by=ADA, reason=None)
        )

    @pytest.mark.parametrize("unused_since", [T1, T2, T2.astimezone(ANOTHER_ZONE)])
    def test_a_token_that_was_used_at_the_instant_or_later_is_not(
        self, unused_since: datetime
    ) -> None:
        given(created(), used(T1), used(T2)).when(revoke(unused_since)).refuses(
            UsedSince, last_used_at=T2
        )

    def test_what_is_revoked_already_stays_silent(self) -> None:
        given(created(), used(T1), revoked(T2)).when(revoke(T0)).stays_silent()


def test_a_use_and_a_careful_revocation_at_once_have_one_winner(database: Database) -> None:
    """Never both: a token that was let in, and revoked although it was."""

    async def race(ledger: TokenLedger, other: TokenLedger, number: int) -> bool:
        token, secret = await ledger.create_scim_token(
            NewScimToken(TEAM_ID, "Okta"), by=Operator(ADA.user_id)
        )
        since = await ledger.time()
        contestants = [
            other.revoke_scim_token(token.id, by=Operator(), unused_since=since),
            ledger.authenticate(secret, Presentation(door="scim")),
        ]
        revoked, let_in = await asyncio.gather(
            *(contestants if number % 2 else reversed(contestants)), return_exceptions=True
        )
        if not number % 2:
            revoked, let_in = let_in, revoked
        is_revoked = revoked is None
        if is_revoked:
            assert isinstance(let_in, TokenRevoked)
        else:
            assert isinstance(revoked, UsedSince)
            assert not isinstance(let_in, BaseException)
            assert revoked.last_used_at == ledger.replay(token.id).last_used_at
        return is_revoked

    async def main() -> None:
        async with open_ledger(database.app) as ledger, open_ledger(database.app) as other:
            won = [await race(ledger, other, number) for number in range(RACES)]
            assert {True, False} == set(won), "each of the two wins now and then"

    asyncio.run(main())
    assert_consistent(database)


class TestReasons:
    @pytest.mark.parametrize("reason", [None, "x", "moved to another tenant", "x" * 200])
    def test_a_creation_and_a_rotation_say_why(self, reason: str | None) -> None:
        assert ScimToken.create(
            team_id=TEAM_ID,
            name="Okta",
            created_by=ADA,
            digest=FIRST,
            expires_at=None,
            at=T0,
            reason=reason,
        ) == [
            Created(
                team_id=TEAM_ID,
                name="Okta",
                created_by=ADA,
                digest=FIRST,
                expires_at=None,
                reason=reason,
            )
        ]
        given(created()).when(rotate(reason)).records(
            Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2, reason=reason)
        )

    @pytest.mark.parametrize("reason", ["", "x" * 201, " ", "a\nforged log line"])
    def test_a_reason_against_the_rules_is_refused(self, reason: str) -> None:
        given(created(), used()).when(rotate(reason)).refuses(InvalidValue, pointer="/reason")
        with pytest.raises(InvalidValue, match=r"^/reason: "):
            ScimToken.create(
                team_id=TEAM_ID,
                name="Okta",
                created_by=ADA,
                digest=FIRST,
                expires_at=None,
                at=T0,
                reason=reason,
            )


def rotate(reason: str | None) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: rotation.rotate(
        token, digest=SECOND, overlap=timedelta(0), rotated_by=ADA, at=T2, reason=reason
    )

"""Commands that revoke SCIM tokens, one or many."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from domain import policy
from domain.authority import Authority, authorise, authorise_scim_token
from domain.command_handlers.execution import Execution
from domain.commands import CommandKey
from domain.event import Changes, States
from domain.eventstore import append
from domain.scim_token.conditions import TokenConditions
from domain.scim_token.token import ScimToken


class RevocationCommands(Execution):
    """What `TokenLedger` does to end SCIM tokens."""

    async def revoke_scim_token(
        self,
        token_id: UUID,
        *,
        by: Authority,
        reason: str | None = None,
        unused_since: datetime | None = None,
    ) -> None:
        """Revoke; repeated, it records nothing. unused_since: see `ScimToken.revoke`.

        Raises NotFound for a missing or foreign token, UsedSince.
        """

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            return [(token_id, token.revoke(by=actor, reason=reason, unused_since=unused_since))]

        await self._execute(token_id, decide, by=by)

    async def begin_revocations(self, *, by: Authority, key: CommandKey) -> datetime:
        """Remember that many tokens are about to be revoked for the cause `key.id`.

        Returns the instant of the first time: what is repeated with its key is still about the
        tokens that there were then. Raises Unauthenticated, PermissionDenied, CommandIdReused.
        """

        def decide(states: States, at: datetime) -> Changes:
            authorise(states, by, at, team_id=None)
            return []

        await self._execute(key.id, decide, by=by, key=key)
        ((at,),) = await self.reads.fetch(append.BEGAN_AT, [key.id])
        assert isinstance(at, datetime)
        return at

    async def revoke_scim_tokens(
        self,
        ids: Sequence[UUID],
        where: TokenConditions,
        *,
        by: Authority,
        reason: str | None,
        cause: UUID,
    ) -> int:
        """Revoke those of a few tokens that still meet the conditions, in one commit.

        A policy counts as it is in force then, whatever `where.longest_lives` was read before.
        Returns how many those were. Raises NotFound where one of them is foreign.
        """
        revoked = 0
        teams = await self._teams_of(ids) if where.violates_policy else frozenset()

        def decide(states: States, at: datetime) -> Changes:
            nonlocal revoked
            in_force = replace(where, longest_lives=policy.lives_for(states, teams))
            chosen = [
                token
                for token in map(states.get, ids)
                if isinstance(token, ScimToken) and in_force.hold_for(token)
            ]
            revoked = len(chosen)
            return [
                (
                    token.id,
                    token.revoke(
                        by=authorise(states, by, at, team_id=token.team_id),
                        reason=reason,
                        cause=cause,
                    ),
                )
                for token in chosen
            ]

        policies = [id_ for team_id in teams for id_ in policy.policies_of(team_id)]
        await self._execute(ids[0], decide, by=by, reads=[*ids, *policies])
        return revoked

    async def _teams_of(self, ids: Sequence[UUID]) -> frozenset[UUID]:
        """The teams of tokens, which never change."""
        tokens = (await self._stored(ids)).values()
        return frozenset(token.team_id for token in tokens if isinstance(token, ScimToken))

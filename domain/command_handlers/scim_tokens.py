"""Commands on a SCIM token that neither give it a secret nor end it for good, and its creation."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain import policy
from domain.authority import Authority, authorise, authorise_scim_token, scim_token_of
from domain.command_handlers.execution import Execution, after
from domain.commands import CommandKey, NewScimToken, ScimTokenChange
from domain.errors import NotFound
from domain.event import Actor, Changes, Event, States, is_live
from domain.scim_token import changes
from domain.scim_token.token import ScimToken
from domain.secret import Secret


class ScimTokenCommands(Execution):
    """What `TokenLedger` does with one SCIM token."""

    async def create_scim_token(
        self, ask: NewScimToken, *, by: Authority, key: CommandKey | None = None
    ) -> tuple[ScimToken, Secret]:
        """Create a token; its secret is in the answer and nowhere else.

        by: an API token needs scim_tokens:write and the team.
        Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (foreign team),
        PolicyViolated, SecretAlreadyShown (a repeat of `key`), CommandIdReused.
        """
        token_id = self.clock_and_ids.new_id()
        secret = self._mint(self._scim_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            actor = authorise(states, by, at, team_id=ask.team_id)
            policy.judge_creation(
                policy.rules_for(states, ask.team_id),
                at=at,
                expires_at=ask.expires_at,
                live_tokens=states.live_tokens.get(ask.team_id),
            )
            return [
                (
                    token_id,
                    ScimToken.create(
                        team_id=ask.team_id,
                        name=ask.name,
                        created_by=actor,
                        digest=digest,
                        expires_at=ask.expires_at,
                        at=at,
                        reason=ask.reason,
                    ),
                )
            ]

        outcome = await self._execute_judged(token_id, decide, team_id=ask.team_id, by=by, key=key)
        return after(outcome, ScimToken, shows=True), secret

    async def change_scim_token(
        self,
        token_id: UUID,
        ask: ScimTokenChange,
        *,
        by: Authority,
        key: CommandKey | None = None,
    ) -> ScimToken:
        """Give a token another name, another end or none.

        Raises InvalidValue, Unauthenticated, PermissionDenied, PolicyViolated, CommandIdReused, and
        NotFound for a missing, foreign or revoked token.
        """

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            events = changes.change(
                token, name=ask.name, expires_at=ask.expires_at, by=actor, reason=ask.reason, at=at
            )
            for event in events:  # a token that breaks the policy already can still be renamed
                if event.expires_at is not UNSET:
                    policy.judge_expiry(
                        policy.rules_for(states, token.team_id),
                        created_at=token.created_at,
                        expires_at=event.expires_at,
                    )
            return [(token_id, events)]

        team_id = await self._team_id(token_id)
        reads = policy.policies_of(team_id)
        outcome = await self._execute(token_id, decide, by=by, key=key, reads=reads)
        return after(outcome, ScimToken)

    async def suspend_scim_token(
        self,
        token_id: UUID,
        *,
        by: Authority,
        reason: str | None = None,
        key: CommandKey | None = None,
    ) -> ScimToken:
        """Let nobody in with the token until it is resumed.

        Raises InvalidValue, Unauthenticated, PermissionDenied, CommandIdReused, and NotFound for a
        missing, foreign or revoked token.
        """

        def change(token: ScimToken, actor: Actor, _: datetime) -> Sequence[Event]:
            return changes.suspend(token, by=actor, reason=reason)

        return await self._change(token_id, change, by=by, key=key)

    async def resume_scim_token(
        self,
        token_id: UUID,
        *,
        by: Authority,
        reason: str | None = None,
        key: CommandKey | None = None,
        meant: datetime | None = None,
    ) -> ScimToken:
        """Take a suspension back, where it is the one that began when was meant.

        Raises what `suspend_scim_token` raises, and PolicyViolated.
        """

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            events = changes.resume(token, by=actor, reason=reason, meant=meant)
            # one that has expired meanwhile takes no place
            if events and is_live(msgspec.structs.replace(token, suspended_at=None), at):
                policy.judge_resumption(
                    policy.rules_for(states, token.team_id),
                    live_tokens=states.live_tokens.get(token.team_id),
                )
            return [(token_id, events)]

        team_id = await self._team_id(token_id)
        outcome = await self._execute_judged(token_id, decide, team_id=team_id, by=by, key=key)
        return after(outcome, ScimToken)

    async def scim_token(self, token_id: UUID) -> ScimToken:
        """A token as it stands, whatever became of it. Raises NotFound."""
        return scim_token_of(await self._stored([token_id]), token_id)

    async def _team_id(self, token_id: UUID) -> UUID:
        """The team of a token, which never changes; of a missing one, an id that no team has."""
        try:
            return (await self.scim_token(token_id)).team_id
        except NotFound:
            return token_id

"""Commands on the networks from which a SCIM token is good."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.authority import Authority
from domain.command_handlers.execution import Execution
from domain.commands import CommandKey
from domain.event import Actor, Event
from domain.scim_token.networks import decide as networks_of
from domain.scim_token.token import ScimToken


class NetworkCommands(Execution):
    """What `TokenLedger` does with the networks of SCIM tokens."""

    async def allow_networks(
        self,
        token_id: UUID,
        networks: Sequence[str],
        *,
        by: Authority,
        reason: str | None = None,
        key: CommandKey | None = None,
        meant: Sequence[str] | None = None,
    ) -> ScimToken:
        """Let the token in from these networks alone: see `networks.decide.allow`.

        meant: the networks that these are to replace, None for whichever they are.

        Raises InvalidValue, Unauthenticated, PermissionDenied, CommandIdReused, and NotFound for a
        missing, foreign or revoked token.
        """

        def change(token: ScimToken, actor: Actor, _: datetime) -> Sequence[Event]:
            return networks_of.allow(token, networks, by=actor, reason=reason, meant=meant)

        return await self._change(token_id, change, by=by, key=key)

    async def allow_any_network(
        self,
        token_id: UUID,
        *,
        by: Authority,
        reason: str | None = None,
        key: CommandKey | None = None,
        meant: Sequence[str] | None = None,
    ) -> ScimToken:
        """Let the token in from anywhere again. meant, errors: as of `allow_networks`."""

        def change(token: ScimToken, actor: Actor, _: datetime) -> Sequence[Event]:
            return networks_of.allow_any(token, by=actor, reason=reason, meant=meant)

        return await self._change(token_id, change, by=by, key=key)

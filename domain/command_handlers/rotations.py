"""Commands on the secrets of a SCIM token."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from domain.authority import Authority, authorise_scim_token
from domain.command_handlers.execution import Execution, after
from domain.commands import CommandKey
from domain.event import Actor, Changes, Event, States
from domain.scim_token import rotation
from domain.scim_token.token import ScimToken
from domain.secret import Secret, SecretId


class RotationCommands(Execution):
    """What `TokenLedger` does with the secrets of a SCIM token."""

    async def rotate_scim_token(
        self,
        token_id: UUID,
        *,
        overlap: timedelta = rotation.DEFAULT_OVERLAP,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
        meant: SecretId | None = None,
    ) -> tuple[ScimToken, Secret]:
        """Give a token a new secret; the older ones end after `overlap`.

        meant: as of `rotation.rotate`. Raises what `create_scim_token` raises, and NotFound for a
        missing, foreign or revoked token.
        """
        secret = self._mint(self._scim_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            events = rotation.rotate(
                token,
                digest=digest,
                overlap=overlap,
                rotated_by=actor,
                at=at,
                reason=reason,
                meant=meant,
            )
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return after(outcome, ScimToken, shows=True), secret

    async def complete_rotation(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
        meant: SecretId | None = None,
    ) -> ScimToken:
        """End the older secret of a rotation now, where it is the one that is meant.

        Raises NotFound, NoRotationUnderway, InvalidValue.
        """

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return rotation.complete(token, completed_by=actor, at=at, reason=reason, meant=meant)

        return await self._change(token_id, change, by=by, key=key)

    async def cancel_rotation(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
        meant: SecretId | None = None,
    ) -> ScimToken:
        """End the newer secret of a rotation now, where it is the one that is meant.

        Raises NotFound, NoRotationUnderway, InvalidValue.
        """

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return rotation.cancel(token, cancelled_by=actor, at=at, reason=reason, meant=meant)

        return await self._change(token_id, change, by=by, key=key)

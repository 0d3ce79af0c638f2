"""Commands on the link that hands a SCIM token over."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.authority import NOBODY_NAMED, Authority, authorise_scim_token
from domain.command_handlers.execution import Execution, after
from domain.commands import CommandKey
from domain.errors import NotFound
from domain.event import Actor, Changes, Event, States
from domain.eventstore.lookups.setup_links import OpenedLink, open_link
from domain.scim_token.handover import decide as handover
from domain.scim_token.token import ScimToken
from domain.secret import Digest, Secret
from domain.setup_link import SetupCode, digest_of, mint_code


class SetupLinkCommands(Execution):
    """What `TokenLedger` does with setup links."""

    _link_keys: Sequence[bytes]

    async def create_setup_link(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
        looked_at: datetime | None = None,
    ) -> tuple[ScimToken, SetupCode]:
        """Make a link that hands a token over, once and within a day; one before it ends.

        looked_at: as of `handover.withdraw`.

        Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (missing, foreign,
        revoked), RotationUnderway, SecretAlreadyShown (a repeat of `key`), CommandIdReused.
        """
        code = mint_code(self.clock_and_ids.entropy())
        digest = Digest(digest_of(code, self._link_keys[0]), self.pepper.generation)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            events = handover.offer(
                token,
                digest=digest,
                created_by=actor,
                at=at,
                reason=reason,
                looked_at=looked_at,
            )
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return after(outcome, ScimToken, shows=True), code

    async def end_setup_link(
        self,
        token_id: UUID,
        *,
        by: Authority,
        reason: str | None = None,
        looked_at: datetime | None = None,
    ) -> None:
        """End the link of a token; repeated, it records nothing.

        looked_at: as of `handover.withdraw`. Raises NotFound, InvalidValue.
        """

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return handover.withdraw(
                token, ended_by=actor, at=at, reason=reason, looked_at=looked_at
            )

        await self._change(token_id, change, by=by, key=None)

    async def open_setup_link(self, token_id: UUID, code: SetupCode) -> OpenedLink:
        """What the holder of a link may see; nothing is spent. Raises NotFound, Unavailable."""
        try:
            return await open_link(self.reads, self.clock, token_id, self._digests(code))
        except NotFound:
            await self.require_all_keys()
            raise

    async def reveal_by_setup_link(
        self, token_id: UUID, code: SetupCode, *, source: str | None, user_agent: str | None
    ) -> tuple[ScimToken, Secret]:
        """Give a token a new secret for the holder of its link: see `handover.reveal`.

        source, user_agent: as in `Presentation`. Raises NotFound, SecretAlreadyShown,
        RotationUnderway, RotatedTooSoon.
        """
        secret = self._mint(self._scim_kind)
        digest, link_digests = self.pepper.digest(secret), self._digests(code)
        holder = Actor(user_id=None, api_token_id=None, source=source, user_agent=user_agent)

        def decide(states: States, at: datetime) -> Changes:
            found = states.get(token_id)
            token = found if isinstance(found, ScimToken) else None
            events = handover.reveal(token, link_digests, digest=digest, holder=holder, at=at)
            return [(token_id, events)]

        try:
            outcome = await self._execute(token_id, decide, by=NOBODY_NAMED)
        except NotFound:
            await self.require_all_keys()
            raise
        return after(outcome, ScimToken, shows=True), secret

    def _digests(self, code: SetupCode) -> list[bytes]:
        return [digest_of(code, key) for key in self._link_keys]

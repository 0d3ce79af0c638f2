"""What happens to a secret that is presented: let in, refused or burnt."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

from domain.authority import Operator, scim_token_of
from domain.command_handlers.execution import Execution
from domain.commands import CommandKey
from domain.errors import NetworkNotAllowed, TokenRefused, TokenSuspended, TokenUnknown
from domain.event import Changes, States
from domain.eventstore import append
from domain.eventstore.peppers.rekeyer import Rekeyer
from domain.eventstore.uses import USE_TIMEOUT_S, Decision, Presented
from domain.refusals.recent import RecentRefusals, RecordedRefusal
from domain.refusals.tally import RefusalTally, TallyKey
from domain.scim_token.events import Presentation
from domain.scim_token.token import REFUSAL_EVERY, ScimToken
from domain.secret import Secret

PASSING_REMEMBERED_FOR: Final = timedelta(seconds=5)
"""A suspension can be taken back, networks can be set anew, and another presenter may stand in one:
then the token is refused for another reason, if it is.
"""
TRIES: Final = 2
"""Of a row that differs from its token's state one says no and the other yes, time and again."""


class LetInAgain(Exception):
    """Resumed, or good from this network, since it was refused."""


class PresentationCommands(Execution):
    """What `TokenLedger` does with a secret that is presented."""

    _rekeyer: Rekeyer
    _refusals: RecentRefusals

    async def authenticate(self, secret: Secret, presentation: Presentation) -> Decision:
        """Let the holder of a SCIM token's secret in: the use is committed before this returns.

        Raises TokenUnknown, TokenRevoked, TokenSuspended, TokenExpired or NetworkNotAllowed;
        Unavailable within half a second.
        """
        deadline = monotonic() + USE_TIMEOUT_S
        presented = Presented(
            self.pepper.candidates(secret), presentation, self.clock_and_ids.clock()
        )
        for _ in range(TRIES):
            with suppress(LetInAgain):
                return await self._let_in(presented, deadline=deadline)
        raise TokenSuspended

    async def _let_in(self, presented: Presented, *, deadline: float) -> Decision:
        """One try. Raises LetInAgain, and as `authenticate`."""
        decision = await self.gate.uses.present(presented, timeout_s=deadline - monotonic())
        if decision is None:
            await self._newer_keys.require_none(timeout_s=deadline - monotonic())
            raise TokenUnknown
        if decision.use is None:
            raise await self._refuse(
                decision,
                presented.candidates,
                presented.presentation,
                timeout_s=deadline - monotonic(),
            )
        if decision.digest != presented.candidates[0]:
            self._rekeyer.note(decision.token_id, presented.candidates, decision.digest)
        return decision

    async def _refuse(
        self,
        decision: Decision,
        candidates: Sequence[bytes],
        presentation: Presentation,
        *,
        timeout_s: float,
    ) -> TokenRefused:
        """Record that a known secret was refused, and say why. Raises LetInAgain."""

        async def record() -> RecordedRefusal:
            refusal: TokenRefused | None = None

            def decide(states: States, at: datetime) -> Changes:
                nonlocal refusal
                token = scim_token_of(states, decision.token_id)
                digest = token.held_as([decision.digest, *candidates])
                refusal = token.refusal_of(digest, presentation, at=at)
                return [(token.id, token.refuse(digest, presentation=presentation, at=at))]

            outcome = await self._execute(
                decision.token_id, decide, by=Operator(), timeout_s=timeout_s
            )
            assert isinstance(outcome.state, ScimToken)
            if refusal is None:  # what is void or over for good stays so
                raise LetInAgain
            due_at = (outcome.state.refused_at or decision.at) + REFUSAL_EVERY
            if isinstance(refusal, TokenSuspended | NetworkNotAllowed):
                due_at = min(due_at, decision.at + PASSING_REMEMBERED_FOR)
            return RecordedRefusal(type(refusal), due_at)

        # What had expired and is void by now is another matter than what is remembered.
        asked = (decision.digest, decision.is_void)
        return await self._refusals.cause(asked, at=decision.at, record=record)

    async def burn_scim_token(
        self, secret: Secret, presentation: Presentation | None = None
    ) -> None:
        """Revoke on the word of whoever holds the secret;
        silent when it names no token that is good.

        Raises TokenUnknown when no token has it: there was nothing to burn.
        """
        held = await self._held(secret)
        if held is None:
            raise TokenUnknown
        token_id, candidates = held[1], self.pepper.candidates(secret)

        def decide(states: States, at: datetime) -> Changes:
            token = scim_token_of(states, token_id)
            digest = token.held_as(candidates)
            return [(token_id, token.burn(digest, at=at, presentation=presentation))]

        await self._execute(token_id, decide, by=Operator())

    async def team_of(self, secret: Secret) -> UUID | None:
        """The team whose token has this secret, good or not; None when there is none.

        Records nothing.
        """
        held = await self._held(secret)
        return None if held is None else held[2]

    async def _held(self, secret: Secret) -> tuple[bytes, UUID, UUID] | None:
        """The digest, token id and team id of a SCIM token's secret."""
        held = await self.reads.fetch(append.HELD, [self.pepper.candidates(secret)])
        if not held:
            await self._newer_keys.require_none()
            return None
        return held[0][0], held[0][1], held[0][2]

    async def record_refusals(self, counts: Mapping[TallyKey, int], *, key: CommandKey) -> None:
        """Add what a process counted to the tallies;
        repeated with the same key, it adds nothing.
        """
        assert counts

        def decide(_: States, __: datetime) -> Changes:
            return [(tally.id, RefusalTally.add(tally, count)) for tally, count in counts.items()]

        ids = [tally.id for tally in counts]
        await self._execute(ids[0], decide, by=Operator(), key=key, reads=ids)

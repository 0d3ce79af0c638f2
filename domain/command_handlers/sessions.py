"""Sessions of the console: signing in and out, and their end with the API token that signed in."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Final
from uuid import UUID

import structlog

from domain.api_token import session
from domain.api_token.token import ApiToken
from domain.authority import ApiCall, Operator, actor_of, api_token_of
from domain.command_handlers.execution import Execution, after
from domain.errors import LedgerError
from domain.event import Actor, Changes, States
from domain.eventstore.lookups import listed_api_tokens
from domain.secret import Secret, SecretKind

AT_ONCE: Final = 50
"""Sessions that one commit ends: what holds the append lock for a few milliseconds."""
REST: Final = 3.0
"""How long the others have the ledger to themselves, in times of what a commit took."""

logger = structlog.get_logger()


class SessionCommands(Execution):
    """What `TokenLedger` does with sessions."""

    _api_kind: SecretKind
    _ending: set[asyncio.Task[None]]

    async def open_session(self, *, by: ApiCall) -> tuple[ApiToken, Secret]:
        """Sign in to the console: an API token for a few hours, with the rights of the caller's.

        Its secret is in the answer and nowhere else. Raises Unauthenticated, also for a session.
        """
        token_id = self.clock_and_ids.new_id()
        secret = self._mint(self._api_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            token = api_token_of(states, by.api_token_id)
            opened = session.open_session(
                token, digest=digest, presented=by.digests, by=actor_of(by, token), at=at
            )
            return [(token_id, opened)]

        return after(await self._execute(token_id, decide, by=by), ApiToken, shows=True), secret

    async def close_session(self, *, by: ApiCall) -> None:
        """Sign out: the session that calls ends; repeated, it records nothing. Raises NotFound."""

        def decide(states: States, _: datetime) -> Changes:
            token = api_token_of(states, by.api_token_id)
            return [(token.id, session.close_session(token, by=actor_of(by, token)))]

        await self._execute(by.api_token_id, decide, by=by)

    async def sessions_ended(self, *, within_s: float | None = None) -> None:
        """Wait until no session is left whose end this process has yet to record.

        What is not done `within_s` is given up: such a session lets nobody in all the same, and is
        over by itself within hours.
        """
        if self._ending:
            _, left = await asyncio.wait(self._ending, timeout=within_s)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def _end_sessions(self, token_ids: Sequence[UUID], *, by: Actor | None) -> None:
        """End the sessions that API tokens opened between the look at them and their revocation, or
        that were too many for its commit; where that is more than one commit, go on in a task.

        by: who revoked them, and was asked for their permission then.
        """
        if await self._end_some(token_ids, by=by) == AT_ONCE:
            task = asyncio.create_task(self._end_the_rest(token_ids, by=by))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end_the_rest(self, token_ids: Sequence[UUID], *, by: Actor | None) -> None:
        count, took_s = AT_ONCE, 0.0
        try:
            while count == AT_ONCE:
                await asyncio.sleep(REST * took_s)
                began = monotonic()
                count = await self._end_some(token_ids, by=by)
                took_s = monotonic() - began
        except LedgerError as error:
            logger.warning("sessions.not_ended", error=type(error).__qualname__)

    async def _end_some(self, token_ids: Sequence[UUID], *, by: Actor | None) -> int:
        """End `AT_ONCE` sessions at most, in one commit; returns how many it found."""
        if sessions := await self._live_sessions(token_ids):
            await self._execute(
                sessions[0],
                lambda states, _: revoke_sessions(states, sessions, by=by),
                by=Operator(),
                reads=sessions,
            )
        return len(sessions)

    async def _live_sessions(self, token_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Some sessions of API tokens, for a command that looks at them under the lock."""
        at = self.clock_and_ids.clock()
        return await listed_api_tokens.live_sessions(self.reads, token_ids, at=at, limit=AT_ONCE)


def revoke_sessions(states: States, sessions: Sequence[UUID], *, by: Actor | None) -> Changes:
    """The end of sessions, with the API token that signed in. by: who revoked that."""
    tokens = [api_token_of(states, session_id) for session_id in sessions]
    return [(each.id, each.revoke(by=by, reason=session.ENDED_WITH)) for each in tokens]

"""Commands on API tokens, and reads of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from domain.api_token import rotation as rotation_of_api_token
from domain.api_token.permissions import Permission
from domain.api_token.session import as_it_stands_in
from domain.api_token.token import ApiToken
from domain.authority import (
    NOBODY_NAMED,
    Authority,
    Operator,
    api_token_of,
    authorise_api_token,
    authorise_api_token_rotation,
    grant_api_token,
    require_another_manager,
    sees,
)
from domain.command_handlers.execution import REFUSAL_TIMEOUT_S, after
from domain.command_handlers.sessions import SessionCommands, revoke_sessions
from domain.commands import CommandKey, NewApiToken
from domain.errors import LastManager, NotFound, TokenRefused
from domain.event import Changes, States
from domain.eventstore.lookups import listed_api_tokens
from domain.eventstore.lookups.api_tokens import ApiTokenLookup
from domain.eventstore.lookups.page_end import PageEnd
from domain.refusals.recent import RecentRefusals, RecordedRefusal
from domain.scim_token.events import Presentation
from domain.scim_token.token import REFUSAL_EVERY
from domain.secret import Secret, SecretKind

PAGE: Final = 100


class ApiTokenCommands(SessionCommands):
    """What `TokenLedger` does with API tokens."""

    api_token_lookup: ApiTokenLookup
    _api_kind: SecretKind
    _refused_calls: RecentRefusals

    async def create_api_token(
        self, ask: NewApiToken, *, by: Authority = NOBODY_NAMED, key: CommandKey | None = None
    ) -> tuple[ApiToken, Secret]:
        """Create an API token; its secret is in the answer and nowhere else.

        by: an API token needs api_tokens:manage, and whatever it grants.
        Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (foreign team),
        SecretAlreadyShown (a repeat of `key`), CommandIdReused.
        """
        token_id = self.clock_and_ids.new_id()
        secret = self._mint(self._api_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            return [(token_id, grant_api_token(states, by, at, ask=ask, digest=digest))]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return after(outcome, ApiToken, shows=True), secret

    async def revoke_api_token(
        self, token_id: UUID, *, by: Authority = NOBODY_NAMED, reason: str | None = None
    ) -> None:
        """Revoke; repeated, it records nothing.

        by: an API token needs api_tokens:manage and all teams of the token, and cannot revoke the
        last manager. Its sessions let nobody in from now on; the end of each is on record at once,
        or, of very many, in a while (`sessions_ended`).
        Raises NotFound for a missing or foreign token, LastManager.
        """
        try:
            await self._revoke_api_token(token_id, by=by, reason=reason)
        except LastManager:  # or those that were looked at have ended since: there may be others
            await self._revoke_api_token(token_id, by=by, reason=reason)

    async def _revoke_api_token(self, token_id: UUID, *, by: Authority, reason: str | None) -> None:
        at = self.clock_and_ids.clock()
        managers: Sequence[UUID] = ()
        if not isinstance(by, Operator):
            managers = await listed_api_tokens.other_managers(self.reads, token_id, at=at)
        sessions = await self._live_sessions([token_id])
        actor = None

        def decide(states: States, at: datetime) -> Changes:
            nonlocal actor
            token, actor = authorise_api_token(states, by, at, token_id=token_id)
            if not isinstance(by, Operator):
                require_another_manager(states, token, at)
            return [
                (token_id, token.revoke(by=actor, reason=reason)),
                *revoke_sessions(states, sessions, by=actor),
            ]

        await self._execute(token_id, decide, by=by, reads=[*managers, *sessions])
        await self._end_sessions([token_id], by=actor)

    async def rotate_api_token(
        self,
        token_id: UUID,
        *,
        overlap: timedelta = rotation_of_api_token.DEFAULT_OVERLAP,
        by: Authority = NOBODY_NAMED,
        key: CommandKey | None = None,
        reason: str | None = None,
        looked_at: datetime | None = None,
    ) -> tuple[ApiToken, Secret]:
        """Give an API token a new secret; the one before ends after `overlap`.

        looked_at: as of its rotation. by: an API token needs api_tokens:manage, and whatever the
        token has. Raises what `create_api_token` and its rotation raise.
        """
        secret = self._mint(self._api_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorise_api_token_rotation(states, by, at, token_id=token_id)
            events = rotation_of_api_token.rotate(
                token,
                digest=digest,
                overlap=overlap,
                rotated_by=actor,
                at=at,
                reason=reason,
                looked_at=looked_at,
            )
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return after(outcome, ApiToken, shows=True), secret

    async def api_token(self, token_id: UUID, *, seen_by: ApiToken | None = None) -> ApiToken:
        """An API token as it stands; without `seen_by`, whatever became of it.

        Raises NotFound, also for one that a manager does not see.
        """
        stored = api_token_of(await self._stored([token_id]), token_id)
        (token,) = await self._as_they_stand([stored])
        if seen_by is not None and not sees(seen_by, token):
            raise NotFound("no such API token")
        return token

    async def api_tokens(
        self, *, after: PageEnd | None = None, limit: int = PAGE
    ) -> Sequence[ApiToken]:
        """API tokens after a page, `limit` at most, oldest first, revoked ones included."""
        page = await listed_api_tokens.oldest(self.reads, after=after, limit=limit)
        return await self._as_they_stand(page)

    async def good_api_tokens(
        self, *, seen_by: ApiToken, at: datetime, after: PageEnd | None = None, limit: int = PAGE
    ) -> Sequence[ApiToken]:
        """Those that a manager sees and that are good at `at`, after a page, newest first.

        Sessions that ended with a secret alone are found with the others and left out here; of many
        of them, each further look passes twice as many.
        """
        good: list[ApiToken] = []
        looked_at = limit
        while True:
            page = await listed_api_tokens.newest(
                self.reads, teams=seen_by.teams, at=at, after=after, limit=looked_at
            )
            good += [each for each in await self._as_they_stand(page) if each.is_good(at=at)]
            if len(good) >= limit or len(page) < looked_at:
                return good[:limit]
            after, looked_at = PageEnd(page[-1].created_at, page[-1].id), 2 * looked_at

    async def _as_they_stand(self, tokens: Sequence[ApiToken]) -> Sequence[ApiToken]:
        """API tokens of their rows, sessions with the end that their API token puts to them."""
        first = {token.session_of for token in tokens if token.session_of is not None}
        states = await self._stored([*first]) if first else States()
        return [as_it_stands_in(states, token) for token in tokens]

    async def use_api_token(
        self,
        token_id: UUID,
        presentation: Presentation | None = None,
        *,
        digests: Sequence[bytes] | None = None,
        session_of: UUID | None = None,
    ) -> None:
        """Record that an API token was used. digests, session_of: as of `ApiCall`.

        Raises Unauthenticated when it is over by now.
        """

        def decide(states: States, at: datetime) -> Changes:
            token = as_it_stands_in(states, api_token_of(states, token_id))
            return [(token_id, token.use(at=at, presentation=presentation, digests=digests))]

        await self._execute(token_id, decide, by=Operator(), reads=_first(session_of))

    async def refuse_api_token(
        self,
        token_id: UUID,
        *,
        lacking: Permission | None,
        presentation: Presentation,
        at: datetime,
        digests: Sequence[bytes] | None = None,
        session_of: UUID | None = None,
    ) -> None:
        """Record that a call with an API token was refused, once a minute however many there are.

        lacking: the permission that it was refused for; None where token or secret is over. at:
        ledger time of the call. digests, session_of: as of `ApiCall`. Raises Unavailable in the
        time that a caller who waits for a refusal can spare.
        """

        async def record() -> RecordedRefusal:
            def decide(states: States, at: datetime) -> Changes:
                token = as_it_stands_in(states, api_token_of(states, token_id))
                refused = token.refuse(
                    lacking=lacking, presentation=presentation, at=at, digests=digests
                )
                return [(token_id, refused)]

            outcome = await self._execute(
                token_id,
                decide,
                by=Operator(),
                reads=_first(session_of),
                timeout_s=REFUSAL_TIMEOUT_S,
            )
            assert isinstance(outcome.state, ApiToken)
            return RecordedRefusal(TokenRefused, (outcome.state.refused_at or at) + REFUSAL_EVERY)

        await self._refused_calls.cause((token_id, lacking is None), at=at, record=record)


def _first(session_of: UUID | None) -> Sequence[UUID]:
    """The API token that a decision on a session reads, too."""
    return () if session_of is None else (session_of,)

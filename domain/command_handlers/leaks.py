"""Who holds a secret, and the report that it leaked."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.authority import Authority, authorise
from domain.command_handlers.sessions import SessionCommands, revoke_sessions
from domain.commands import CommandKey
from domain.event import Actor, Changes, States
from domain.leaks.holder import Holder
from domain.leaks.holders import find_holders
from domain.leaks.report import LeakAnswer, LeakReport
from domain.leaks.report import decide as decide_on_leaks
from domain.scim_token.leak import Leak
from domain.secret import Secret


class LeakCommands(SessionCommands):
    """What `TokenLedger` does with secrets that leaked."""

    _revokes_leaked: bool

    async def holders(self, secrets: Sequence[Secret]) -> Sequence[Holder | None]:
        """Who has each secret, good or not; None for one that nobody has. Records nothing."""
        found = await find_holders(self.reads, self.pepper, secrets)
        if None in found:
            await self._newer_keys.require_none()
        return found

    async def report_leaks(
        self,
        reports: Sequence[LeakReport],
        *,
        by: Authority,
        teams: Sequence[UUID] | None,
        key: CommandKey | None = None,
    ) -> Sequence[LeakAnswer | None]:
        """End the tokens whose secrets leaked, or mark them: see `Holder.report`.

        by: an API token needs leaks:report. teams: that it may touch, None for all; a secret of
        another team is one that nobody has, and nothing happens to it. The answers are in the order
        of the reports, None for what nobody has. Raises Unauthenticated, PermissionDenied,
        CommandIdReused.
        """
        held = [
            holder if holder is not None and holder.is_visible(teams) else None
            for holder in await self.holders([report.secret for report in reports])
        ]
        if None in held:  # asked for a foreign secret, too: its answer takes as long
            await self._newer_keys.require_none()
        found = [
            (holder, report.leak)
            for holder, report in zip(held, reports, strict=True)
            if holder is not None
        ]
        answers = iter(await self._report_found(found, by=by, key=key) if found else ())
        return [None if holder is None else next(answers) for holder in held]

    async def _report_found(
        self, found: Sequence[tuple[Holder, Leak]], *, by: Authority, key: CommandKey | None
    ) -> Sequence[LeakAnswer]:
        answers: Sequence[LeakAnswer] = ()
        actors: dict[UUID, Actor] = {}
        ids = list({holder.token.id for holder, _ in found})
        api_tokens = [each.token.id for each, _ in found if isinstance(each.token, ApiToken)]
        sessions = await self._live_sessions(api_tokens) if api_tokens else ()

        def decide(states: States, at: datetime) -> Changes:
            nonlocal answers, actors
            actors = {
                holder.token.id: authorise(
                    states,
                    by,
                    at,
                    team_id=holder.token.stream_team,
                    permission=Permission.LEAKS_REPORT,
                )
                for holder, _ in found
            }
            changes, answers = decide_on_leaks(
                found, states, actors=actors, revokes=self._revokes_leaked, at=at
            )
            others = [each for each in sessions if each not in ids]
            return [*changes, *revoke_sessions(states, others, by=next(iter(actors.values())))]

        outcome = await self._execute(ids[0], decide, by=by, key=key, reads=[*ids, *sessions])
        if api_tokens:
            await self._end_sessions(api_tokens, by=next(iter(actors.values()), None))
        if outcome.is_repeat:  # what the first execution did is done; this one did nothing
            at = await self.time()
            return [LeakAnswer(each.token.id, each.state(at=at), "none") for each, _ in found]
        return answers

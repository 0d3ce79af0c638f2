"""The ledger: one method for each command, and replay of a stream.

Commands are decided and stored by the append gate; replay, the repository and the notification log
are the library's, on our recorder. Time, ids and randomness enter through the constructor.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Self, TypeVar
from uuid import UUID

import psycopg
from msgspec import UNSET

from domain import policy
from domain.api_token import ApiToken, Permission, session
from domain.api_token import rotation as rotation_of_api_token
from domain.authority import (
    NOBODY_NAMED,
    ApiCall,
    Authority,
    Operator,
    api_token_of,
    authorise,
    authorise_policy,
    authorised,
    granted,
    is_manager,
    managed,
    require_another_manager,
    rotated,
    scim_token_of,
    sees,
    signed,
    signing_api_token,
)
from domain.commands import ClockAndIds, CommandKey, NewApiToken, NewScimToken, ScimTokenChange
from domain.errors import NotFound, SecretAlreadyShown, TokenRefused, TokenSuspended, TokenUnknown
from domain.event import Actor, Aggregate, Changes, Event, States
from domain.eventstore import append
from domain.eventstore.aggregates import decode_state
from domain.eventstore.api_token_lookup import ApiTokenLookup
from domain.eventstore.command_batch import Command, Outcome
from domain.eventstore.commit_turn import ALONE, CommitTurn
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.gate import COMMAND_TIMEOUT_S, AppendGate
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.library.application import LedgerApplication
from domain.eventstore.peppers.fingerprints import PepperRequirement
from domain.eventstore.peppers.newer_keys import NewerPeppers
from domain.eventstore.peppers.rekeyer import Rekeyer
from domain.eventstore.setup_link_lookup import OpenedLink, open_link
from domain.eventstore.uses import USE_TIMEOUT_S, Decision, Presented
from domain.instruments import LedgerInstruments
from domain.leaks.holder import Holder
from domain.leaks.holders import find_holders
from domain.leaks.report import LeakAnswer, LeakReport
from domain.leaks.report import decide as decide_on_leaks
from domain.policy import NO_RULES, NotCounted, Policy, Rules
from domain.postgres.primary import Primary
from domain.postgres.read_pool import ReadPool
from domain.refusals.recent import RecentRefusals, RecordedRefusal
from domain.refusals.tally import RefusalTally, TallyKey
from domain.scim_token import changes, rotation
from domain.scim_token.conditions import TokenConditions
from domain.scim_token.events import Presentation
from domain.scim_token.handover import decide as handover
from domain.scim_token.leak import Leak
from domain.scim_token.token import REFUSAL_EVERY, ScimToken
from domain.secret import Pepper, Secret, SecretKind, mint
from domain.setup_link import KEY_PURPOSE, SetupCode, digest_of, mint_code

T = TypeVar("T", ApiToken, ScimToken)
REFUSAL_TIMEOUT_S: Final = 0.3


class TokenLedger(LedgerApplication):
    """The ledger of SCIM tokens and of the API tokens that manage them.

    conninfo: libpq connection string of the app role. pepper: digests secrets. is_live: which
    kind new secrets are of. secret_prefix: the issuer's, that they begin with. revokes_leaked: a
    SCIM token whose leak is reported ends, instead of being marked. on_append: called after each
    commit that stored something.
    commit_turn: see `AppendGate`. instruments: what counts here.
    Every command raises Unavailable within its deadline when the store is away.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        pepper: Pepper,
        clock_and_ids: ClockAndIds,
        is_live: bool = True,
        secret_prefix: str | None = None,
        revokes_leaked: bool = True,
        on_append: Callable[[], None] = lambda: None,
        commit_turn: CommitTurn = ALONE,
        instruments: LedgerInstruments | None = None,
    ) -> None:
        super().__init__(conninfo)
        self.pepper = pepper
        self.clock_and_ids = clock_and_ids
        self._scim_kind = SecretKind.SCIM_LIVE if is_live else SecretKind.SCIM_TEST
        self._api_kind = SecretKind.API_LIVE if is_live else SecretKind.API_TEST
        self._secret_prefix = secret_prefix
        self._revokes_leaked = revokes_leaked
        self.clock = LedgerClock(clock_and_ids.clock)
        instruments = instruments or LedgerInstruments()
        primary = Primary(conninfo, requires=PepperRequirement(pepper))
        self.gate = AppendGate(
            primary,
            REGISTRY,
            clock=self.clock,
            new_id=clock_and_ids.new_id,
            on_append=on_append,
            commit_turn=commit_turn,
            instruments=instruments,
        )
        self.reads = ReadPool(conninfo, primary=primary, instruments=instruments.reads)
        self._newer_keys = NewerPeppers(self.reads, pepper)
        self._link_key = pepper.derive(KEY_PURPOSE)
        self.api_token_lookup = ApiTokenLookup(self.reads, self.clock, self._newer_keys)
        self._rekeyer = Rekeyer(self.gate, self.reads, pepper, new_id=clock_and_ids.new_id)
        self._refusals = RecentRefusals()
        self._refused_calls = RecentRefusals()

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
        return _after(outcome, ScimToken, shows=True), secret

    async def rotate_scim_token(
        self,
        token_id: UUID,
        *,
        overlap: timedelta = rotation.DEFAULT_OVERLAP,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
    ) -> tuple[ScimToken, Secret]:
        """Give a token a new secret; the older ones end after `overlap`.

        Raises what `create_scim_token` raises, and NotFound for a missing, foreign or revoked
        token.
        """
        secret = self._mint(self._scim_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorised(states, by, at, token_id=token_id)
            events = rotation.rotate(
                token, digest=digest, overlap=overlap, rotated_by=actor, at=at, reason=reason
            )
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return _after(outcome, ScimToken, shows=True), secret

    async def complete_rotation(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
    ) -> ScimToken:
        """End the older secret of a rotation now. Raises NotFound, NoRotationUnderway."""

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return rotation.complete(token, completed_by=actor, at=at, reason=reason)

        return await self._change(token_id, change, by=by, key=key)

    async def cancel_rotation(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
    ) -> ScimToken:
        """End the newer secret of a rotation now. Raises NotFound, NoRotationUnderway."""

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return rotation.cancel(token, cancelled_by=actor, at=at, reason=reason)

        return await self._change(token_id, change, by=by, key=key)

    async def create_setup_link(
        self,
        token_id: UUID,
        *,
        by: Authority,
        key: CommandKey | None = None,
        reason: str | None = None,
    ) -> tuple[ScimToken, SetupCode]:
        """Make a link that hands a token over, once and within a day; one before it ends.

        Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (missing, foreign,
        revoked), RotationUnderway, SecretAlreadyShown (a repeat of `key`), CommandIdReused.
        """
        code = mint_code(self.clock_and_ids.entropy())
        digest = digest_of(code, self._link_key)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorised(states, by, at, token_id=token_id)
            events = handover.offer(token, digest=digest, created_by=actor, at=at, reason=reason)
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return _after(outcome, ScimToken, shows=True), code

    async def end_setup_link(
        self, token_id: UUID, *, by: Authority, reason: str | None = None
    ) -> None:
        """End the link of a token; repeated, it records nothing. Raises NotFound, InvalidValue."""

        def change(token: ScimToken, actor: Actor, at: datetime) -> Sequence[Event]:
            return handover.withdraw(token, ended_by=actor, at=at, reason=reason)

        await self._change(token_id, change, by=by, key=None)

    async def open_setup_link(self, token_id: UUID, code: SetupCode) -> OpenedLink:
        """What the holder of a link may see; nothing is spent. Raises NotFound."""
        digest = digest_of(code, self._link_key)
        return await open_link(self.reads, self.clock, token_id, digest)

    async def reveal_by_setup_link(
        self, token_id: UUID, code: SetupCode, *, source: str | None, user_agent: str | None
    ) -> tuple[ScimToken, Secret]:
        """Give a token a new secret for the holder of its link: see `handover.reveal`.

        source, user_agent: as in `Presentation`. Raises NotFound, SecretAlreadyShown,
        RotationUnderway, RotatedTooSoon.
        """
        secret = self._mint(self._scim_kind)
        digest, link_digest = self.pepper.digest(secret), digest_of(code, self._link_key)
        holder = Actor(user_id=None, api_token_id=None, source=source, user_agent=user_agent)

        def decide(states: States, at: datetime) -> Changes:
            found = states.get(token_id)
            token = found if isinstance(found, ScimToken) else None
            events = handover.reveal(token, link_digest, digest=digest, holder=holder, at=at)
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=NOBODY_NAMED)
        return _after(outcome, ScimToken, shows=True), secret

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
            token, actor = authorised(states, by, at, token_id=token_id)
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

        Returns how many those were. Raises NotFound where one of them is foreign.
        """
        revoked = 0

        def decide(states: States, at: datetime) -> Changes:
            nonlocal revoked
            chosen = [
                token
                for token in map(states.get, ids)
                if isinstance(token, ScimToken) and where.hold_for(token)
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

        await self._execute(ids[0], decide, by=by, reads=ids)
        return revoked

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
            token, actor = authorised(states, by, at, token_id=token_id)
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
        return _after(outcome, ScimToken)

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
    ) -> ScimToken:
        """Take a suspension back. Raises what `suspend_scim_token` raises, and PolicyViolated."""

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorised(states, by, at, token_id=token_id)
            events = changes.resume(token, by=actor, reason=reason)
            if events:
                policy.judge_resumption(
                    policy.rules_for(states, token.team_id),
                    live_tokens=states.live_tokens.get(token.team_id),
                )
            return [(token_id, events)]

        team_id = await self._team_id(token_id)
        outcome = await self._execute_judged(token_id, decide, team_id=team_id, by=by, key=key)
        return _after(outcome, ScimToken)

    async def _change(
        self,
        token_id: UUID,
        change: Callable[[ScimToken, Actor, datetime], Sequence[Event]],
        *,
        by: Authority,
        key: CommandKey | None,
    ) -> ScimToken:
        """Let a decision change a SCIM token that the caller may change; the token after it."""

        def decide(states: States, at: datetime) -> Changes:
            token, actor = authorised(states, by, at, token_id=token_id)
            return [(token_id, change(token, actor, at))]

        return _after(await self._execute(token_id, decide, by=by, key=key), ScimToken)

    async def _team_id(self, token_id: UUID) -> UUID:
        """The team of a token, which never changes; of a missing one, an id that no team has."""
        try:
            return (await self.scim_token(token_id)).team_id
        except NotFound:
            return token_id

    async def authenticate(self, secret: Secret, presentation: Presentation) -> Decision:
        """Let the holder of a SCIM token's secret in: the use is committed before this returns.

        Raises TokenUnknown, TokenRevoked, TokenSuspended or TokenExpired; Unavailable within half a
        second.
        """
        deadline = monotonic() + USE_TIMEOUT_S
        presented = Presented(
            self.pepper.candidates(secret), presentation, self.clock_and_ids.clock()
        )
        decision = await self.gate.uses.present(presented)
        if decision is None:
            await self._newer_keys.require_none(timeout_s=deadline - monotonic())
            raise TokenUnknown
        if decision.use_id is None:
            raise await self._refuse(
                decision, presented.candidates, presentation, timeout_s=deadline - monotonic()
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
        """Record that a known secret was refused, and say why."""

        async def record() -> RecordedRefusal:
            refusal: TokenRefused | None = None

            def decide(states: States, at: datetime) -> Changes:
                nonlocal refusal
                token = scim_token_of(states, decision.token_id)
                digest = token.held_as([decision.digest, *candidates])
                refusal = token.refusal(digest, at=at)
                return [(token.id, token.refuse(digest, presentation=presentation, at=at))]

            outcome = await self._execute(
                decision.token_id, decide, by=Operator(), timeout_s=timeout_s
            )
            assert isinstance(outcome.state, ScimToken)
            if refusal is None:  # resumed meanwhile: what is void or over for good stays so
                return RecordedRefusal(TokenSuspended, decision.at)
            return RecordedRefusal(
                type(refusal), (outcome.state.refused_at or decision.at) + REFUSAL_EVERY
            )

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
                found, states, signed=actors, revokes=self._revokes_leaked, at=at
            )
            return changes

        ids = list({holder.token.id for holder, _ in found})
        outcome = await self._execute(ids[0], decide, by=by, key=key, reads=ids)
        api_tokens = [each.token.id for each, _ in found if isinstance(each.token, ApiToken)]
        if api_tokens:
            await self._end_sessions(api_tokens, by=next(iter(actors.values()), None))
        if outcome.is_repeat:  # what the first execution did is done; this one did nothing
            at = await self.time()
            return [LeakAnswer(each.token.id, each.state(at=at), "none") for each, _ in found]
        return answers

    def _mint(self, kind: SecretKind) -> Secret:
        return mint(kind, self.clock_and_ids.entropy(), prefix=self._secret_prefix)

    async def _held(self, secret: Secret) -> tuple[bytes, UUID, UUID] | None:
        """The digest, token id and team id of a SCIM token's secret."""
        held = await self.reads.fetch(append.HELD, [self.pepper.candidates(secret)], binary=True)
        if not held:
            await self._newer_keys.require_none()
            return None
        return held[0][0], held[0][1], held[0][2]

    async def time(self) -> datetime:
        """Ledger time.

        Raises ClockSkewed where this process's clock is not believed, StoreUnavailable.
        """
        try:
            ((at,),) = await self.reads.fetch(append.LEDGER_TIME, [self.clock()])
        except psycopg.Error as error:
            self.clock.refuse(error)
            raise
        self.clock.believed()
        assert isinstance(at, datetime)
        return at

    async def scim_token(self, token_id: UUID) -> ScimToken:
        """A token as it stands, whatever became of it. Raises NotFound."""
        return scim_token_of(await self._stored(token_id), token_id)

    async def _stored(self, id_: UUID) -> States:
        """The aggregate of an id, if there is one; a read, outside of any append."""
        rows = await self.reads.fetch(append.LOAD, [[id_]])
        return States(
            {
                id_: decode_state(
                    kind, state, version=version, last_used_at=last_used_at, uses=uses
                )
                for id_, kind, state, version, last_used_at, uses in rows
            }
        )

    async def record_refusals(self, counts: Mapping[TallyKey, int], *, key: CommandKey) -> None:
        """Add what a process counted to the tallies;
        repeated with the same key, it adds nothing.
        """
        assert counts

        def decide(_: States, __: datetime) -> Changes:
            return [(tally.id, RefusalTally.add(tally, count)) for tally, count in counts.items()]

        ids = [tally.id for tally in counts]
        await self._execute(ids[0], decide, by=Operator(), key=key, reads=ids)

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
            return [(token_id, granted(states, by, at, ask=ask, digest=digest))]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return _after(outcome, ApiToken, shows=True), secret

    async def revoke_api_token(
        self, token_id: UUID, *, by: Authority = NOBODY_NAMED, reason: str | None = None
    ) -> None:
        """Revoke; repeated, it records nothing.

        by: an API token needs api_tokens:manage and all teams of the token, and cannot revoke the
        last manager. Raises NotFound for a missing or foreign token, LastManager.
        """
        managers = () if isinstance(by, Operator) else await self._managers()
        actor = None

        def decide(states: States, at: datetime) -> Changes:
            nonlocal actor
            token, actor = managed(states, by, at, token_id=token_id)
            if not isinstance(by, Operator):
                require_another_manager(states, token, at)
            return [(token_id, token.revoke(by=actor, reason=reason))]

        await self._execute(token_id, decide, by=by, reads=managers)
        await self._end_sessions([token_id], by=actor)

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
                token, digest=digest, presented=by.digest, by=signed(by, token), at=at
            )
            return [(token_id, opened)]

        return _after(await self._execute(token_id, decide, by=by), ApiToken, shows=True), secret

    async def close_session(self, *, by: ApiCall) -> None:
        """Sign out: the session that calls ends; repeated, it records nothing. Raises NotFound."""

        def decide(states: States, _: datetime) -> Changes:
            token = api_token_of(states, by.api_token_id)
            return [(token.id, session.close_session(token, by=signed(by, token)))]

        await self._execute(by.api_token_id, decide, by=by)

    async def _end_sessions(self, token_ids: Sequence[UUID], *, by: Actor | None) -> None:
        """End the sessions of API tokens that are revoked: none of them can open another.

        by: who revoked them, and was asked for their permission then.
        """
        found = [
            each.id
            for each in await self.api_tokens()
            if each.session_of in token_ids and each.revoked_at is None
        ]

        def decide(states: States, _: datetime) -> Changes:
            tokens = [api_token_of(states, id_) for id_ in found]
            return [(each.id, each.revoke(by=by, reason=session.ENDED_WITH)) for each in tokens]

        if found:
            await self._execute(found[0], decide, by=Operator(), reads=found)

    async def rotate_api_token(
        self,
        token_id: UUID,
        *,
        overlap: timedelta = rotation_of_api_token.DEFAULT_OVERLAP,
        by: Authority = NOBODY_NAMED,
        key: CommandKey | None = None,
        reason: str | None = None,
    ) -> tuple[ApiToken, Secret]:
        """Give an API token a new secret; the one before ends after `overlap`.

        by: an API token needs api_tokens:manage, and whatever the token has.
        Raises what `create_api_token` and its rotation raise.
        """
        secret = self._mint(self._api_kind)
        digest = self.pepper.digest(secret)

        def decide(states: States, at: datetime) -> Changes:
            token, actor = rotated(states, by, at, token_id=token_id)
            events = rotation_of_api_token.rotate(
                token, digest=digest, overlap=overlap, rotated_by=actor, at=at, reason=reason
            )
            return [(token_id, events)]

        outcome = await self._execute(token_id, decide, by=by, key=key)
        return _after(outcome, ApiToken, shows=True), secret

    async def _managers(self) -> Sequence[UUID]:
        """The API tokens that manage now, for a command that looks at them under the lock.

        There, each of them is as it is: two revocations cannot count on each other's manager. One
        that is made between this and the lock is not counted on.
        """
        at = self.clock_and_ids.clock()
        return [each.id for each in await self.api_tokens() if is_manager(each, at=at)]

    async def api_token(self, token_id: UUID, *, seen_by: ApiToken | None = None) -> ApiToken:
        """An API token as it stands; without `seen_by`, whatever became of it.

        Raises NotFound, also for one that a manager does not see.
        """
        token = api_token_of(await self._stored(token_id), token_id)
        if seen_by is not None and not sees(seen_by, token):
            raise NotFound("no such API token")
        return token

    async def api_tokens(self) -> list[ApiToken]:
        """Every API token, oldest first, revoked ones included."""
        rows = await self.reads.fetch(append.LIST_API_TOKENS)
        return sorted(
            (_stored_api_token(*row) for row in rows),
            key=lambda token: (token.created_at, token.id),
        )

    async def use_api_token(
        self,
        token_id: UUID,
        presentation: Presentation | None = None,
        *,
        digest: bytes | None = None,
    ) -> None:
        """Record that an API token was used. digest: of the secret that was presented.

        Raises Unauthenticated when it is over by now.
        """

        def decide(states: States, at: datetime) -> Changes:
            token = api_token_of(states, token_id)
            return [(token_id, token.use(at=at, presentation=presentation, digest=digest))]

        await self._execute(token_id, decide, by=Operator())

    async def refuse_api_token(
        self,
        token_id: UUID,
        *,
        lacking: Permission | None,
        presentation: Presentation,
        at: datetime,
        digest: bytes | None = None,
    ) -> None:
        """Record that a call with an API token was refused, once a minute however many there are.

        lacking: the permission that it was refused for; None where token or secret is over. at:
        ledger time of the call. digest: of the secret that was presented. Raises Unavailable in the
        time that a caller who waits for a refusal can spare.
        """

        async def record() -> RecordedRefusal:
            def decide(states: States, at: datetime) -> Changes:
                token = api_token_of(states, token_id)
                refused = token.refuse(
                    lacking=lacking, presentation=presentation, at=at, digest=digest
                )
                return [(token_id, refused)]

            outcome = await self._execute(
                token_id, decide, by=Operator(), timeout_s=REFUSAL_TIMEOUT_S
            )
            assert isinstance(outcome.state, ApiToken)
            return RecordedRefusal(TokenRefused, (outcome.state.refused_at or at) + REFUSAL_EVERY)

        await self._refused_calls.cause((token_id, lacking is None), at=at, record=record)

    async def set_policy(
        self,
        rules: Rules,
        *,
        team_id: UUID | None,
        by: Authority,
        key: CommandKey | None = None,
    ) -> Rules:
        """Replace the general policy, or a team's own; returns its rules.

        by: an API token needs policies:manage, and the team, or every team for the general one.
        Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (foreign team),
        CommandIdReused.
        """
        id_ = policy.policy_id(team_id)

        def decide(states: States, at: datetime) -> Changes:
            actor = authorise_policy(states, by, at, team_id=team_id)
            before = states.get(id_)
            assert before is None or isinstance(before, Policy)
            return [(id_, policy.set_policy(before, team_id=team_id, rules=rules, by=actor))]

        outcome = await self._execute(id_, decide, by=by, key=key)
        return _rules_of(outcome.state)

    async def policy(self, team_id: UUID | None) -> Rules:
        """The rules of the general policy, or of a team's own; none where it was never set."""
        id_ = policy.policy_id(team_id)
        return _rules_of((await self._stored(id_)).get(id_))

    async def aclose(self) -> None:
        """Answer what was accepted, then close every connection."""
        await self._rekeyer.close()
        await self.gate.close()
        await self.reads.close()
        self.close()

    async def _execute_judged(
        self,
        originator_id: UUID,
        decide: Callable[[States, datetime], Changes],
        *,
        team_id: UUID,
        by: Authority,
        key: CommandKey | None = None,
    ) -> Outcome:
        """Execute what the policies of a team judge. Its tokens are counted where one limits them:
        most do not, and counting needs a second try.
        """
        deadline, reads = monotonic() + COMMAND_TIMEOUT_S, policy.policies_of(team_id)
        try:
            return await self._execute(originator_id, decide, by=by, key=key, reads=reads)
        except NotCounted:
            return await self._execute(
                originator_id,
                decide,
                by=by,
                key=key,
                reads=reads,
                counts=team_id,
                timeout_s=deadline - monotonic(),
            )

    async def _execute(
        self,
        originator_id: UUID,
        decide: Callable[[States, datetime], Changes],
        *,
        by: Authority,
        key: CommandKey | None = None,
        reads: Sequence[UUID] = (),
        counts: UUID | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Outcome:
        attempt = self.clock_and_ids.new_id()
        signed = signing_api_token(by)
        return await self.gate.execute(
            Command(
                id=attempt if key is None else key.id,
                attempt=attempt,
                originator_id=originator_id,
                reads=frozenset({originator_id, *reads, *(() if signed is None else (signed,))}),
                request=b"" if key is None else key.request,
                decide=decide,
                counts=counts,
            ),
            timeout_s=timeout_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _stored_api_token(
    state: bytes, version: int, last_used_at: datetime | None, uses: int
) -> ApiToken:
    token = decode_state("api_token", state, version=version, last_used_at=last_used_at, uses=uses)
    assert isinstance(token, ApiToken)
    return token


def _rules_of(state: Aggregate | None) -> Rules:
    assert state is None or isinstance(state, Policy)
    return NO_RULES if state is None else state.rules


def _after(outcome: Outcome, kind: type[T], *, shows: bool = False) -> T:
    """The aggregate after a command.

    shows: with it goes a new secret. Raises SecretAlreadyShown then, where the command is a repeat.
    """
    if shows and outcome.is_repeat:
        raise SecretAlreadyShown(outcome.originator_id)
    assert isinstance(outcome.state, kind)
    return outcome.state

"""What every command of the ledger is executed by, and replay of what it is about."""

from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Final, TypeVar
from uuid import UUID

from domain import policy
from domain.api_token.token import ApiToken
from domain.authority import Authority, api_token_ids, authorise_scim_token
from domain.commands import ClockAndIds, CommandKey
from domain.errors import SecretAlreadyShown
from domain.event import Actor, Changes, Event, States
from domain.eventstore import append
from domain.eventstore.aggregates import decode_states
from domain.eventstore.append_faults import AppendProbe
from domain.eventstore.command_batch import Command, Outcome
from domain.eventstore.gate import COMMAND_TIMEOUT_S, AppendGate
from domain.eventstore.ledger_clock import LedgerClock, read_ledger_time
from domain.eventstore.peppers.newer_keys import NewerPeppers
from domain.policy import NotCounted
from domain.postgres.read_pool import ReadPool
from domain.scim_token.token import ScimToken
from domain.secret import Pepper, Secret, SecretKind, mint

T = TypeVar("T", ApiToken, ScimToken)
REFUSAL_TIMEOUT_S: Final = 0.3


class Execution:
    """Executes a decision in the append gate, and replays what it is about.

    `TokenLedger` gives it its parts.
    """

    gate: AppendGate
    reads: ReadPool
    pepper: Pepper
    clock: LedgerClock
    clock_and_ids: ClockAndIds
    _newer_keys: NewerPeppers
    _append_probe: AppendProbe
    _scim_kind: SecretKind
    _secret_prefix: str | None

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
        return await self.gate.execute(
            Command(
                id=attempt if key is None else key.id,
                attempt=attempt,
                originator_id=originator_id,
                reads=frozenset({originator_id, *reads, *api_token_ids(by)}),
                request=b"" if key is None else key.request,
                decide=decide,
                counts=counts,
            ),
            timeout_s=timeout_s,
        )

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
            token, actor = authorise_scim_token(states, by, at, token_id=token_id)
            return [(token_id, change(token, actor, at))]

        return after(await self._execute(token_id, decide, by=by, key=key), ScimToken)

    async def time(self) -> datetime:
        """Ledger time.

        Raises ClockSkewed where this process's clock is not believed, StoreUnavailable.
        """
        return await read_ledger_time(self.reads, self.clock)

    async def require_appends(self) -> None:
        """Raise LedgerLocked, AppendsRefused or StoreUnavailable where no use would be recorded."""
        await self._append_probe.require()

    async def require_all_keys(self) -> None:
        """Raise PepperMismatch where the ledger has a key that this process lacks;
        StoreUnavailable.
        """
        await self._newer_keys.require_none()

    def _mint(self, kind: SecretKind) -> Secret:
        return mint(kind, self.clock_and_ids.entropy(), prefix=self._secret_prefix)

    async def _stored(self, ids: Sequence[UUID]) -> States:
        """The aggregates of some ids, where there are any; a read, outside of any append."""
        return States(decode_states(await self.reads.fetch(append.LOAD, [list(ids)])))


def after(outcome: Outcome, kind: type[T], *, shows: bool = False) -> T:
    """The aggregate after a command.

    shows: with it goes a new secret. Raises SecretAlreadyShown then, where the command is a repeat.
    """
    if shows and outcome.is_repeat:
        raise SecretAlreadyShown(outcome.originator_id)
    assert isinstance(outcome.state, kind)
    return outcome.state

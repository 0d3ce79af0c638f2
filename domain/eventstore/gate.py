"""The append gate: every change of every aggregate of this process goes through here, in groups.

One queue, one connection, one transaction at a time. While a commit is under way the next batch queues up,
so durability is paid per batch and not per request. Under the append lock nothing else changes the ledger:
a decision is made on the state that it will be stored after, versions never conflict, and a revoke that was
answered is seen by every later batch of every process.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from domain.errors import CommandIdReused, StoreUnavailable
from domain.event import Aggregate, Event, Recorded
from domain.eventstore import append
from domain.eventstore.aggregates import decode_state, evolve
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.connection import connect, cut_after, is_alive
from domain.eventstore.registry import EventRegistry
from domain.scim_token import Presentation, Used

COMMAND_TIMEOUT_S: Final = 1.8
USE_TIMEOUT_S: Final = 0.45
BATCH_TIMEOUT_S: Final = 0.9

States: TypeAlias = Mapping[UUID, Aggregate]
Changes: TypeAlias = Sequence[tuple[UUID, Sequence[Event]]]


@dataclass(frozen=True, slots=True)
class Command:
    """A decision to be taken under the append lock.

    id: repeated with the same `request`, the command has one effect.
    attempt: random, new for every `Command` object; tells our own second try from a caller's repeat.
    originator_id: the aggregate that it is about; for a creation, an id that was never used.
    reads: every aggregate that `decide` looks at. request: digest of what is asked, for telling reuse.
    decide: states by id and the ledger's instant in, events per aggregate out, or a Refusal raised.
    """

    id: UUID
    attempt: UUID
    originator_id: UUID
    reads: frozenset[UUID]
    request: bytes
    decide: Callable[[States, datetime], Changes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command.

    originator_id: of the execution that had the effect. state: of that aggregate, None when it was not read.
    is_repeat: another attempt had the effect; this one changed nothing.
    """

    originator_id: UUID
    state: Aggregate | None
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class Presented:
    """A secret that asks to be let in.

    candidates: the digests under which it may be stored. presentation: how it was presented.
    at: when it arrived.
    """

    candidates: Sequence[bytes]
    presentation: Presentation
    at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a presented secret.

    digest: the candidate that is stored. use_id: of the `Used` event that is committed, None when refused.
    at: ledger time of the decision.
    """

    token_id: UUID
    team_id: UUID
    digest: bytes
    use_id: UUID | None
    at: datetime


AnyJob: TypeAlias = "Job[Any, Any]"


class AppendGate:
    """Group commit of commands and uses for one process.

    clock: now, aware UTC. new_id: a fresh UUID, for a use.
    on_append: called after each commit that may have stored something.
    """

    def __init__(
        self,
        conninfo: str,
        registry: EventRegistry,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        on_append: Callable[[], None] = lambda: None,
    ) -> None:
        self._conninfo = conninfo
        self._registry = registry
        self._clock = clock
        self._new_id = new_id
        self._on_append = on_append
        self._connection: AsyncConnection[TupleRow] | None = None
        self._jobs = Batcher(self._run, max_batch=1000)
        self.batch_sizes: deque[int] = deque(maxlen=1000)

    async def execute(self, command: Command, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Outcome:
        """Decide and store one command. Raises its Refusal, or Unavailable within `timeout_s`."""
        outcome = await self._jobs.submit(command, timeout_s=timeout_s)
        assert isinstance(outcome, Outcome)
        return outcome

    async def present(self, presented: Presented, *, timeout_s: float = USE_TIMEOUT_S) -> Decision | None:
        """Let a secret in, its use being committed, or not; None when no digest matches.

        Raises Unavailable within `timeout_s`: then it is not let in, whether or not a use was recorded.
        """
        decision = await self._jobs.submit(presented, timeout_s=timeout_s)
        assert decision is None or isinstance(decision, Decision)
        return decision

    async def close(self) -> None:
        """Answer what was accepted, then hang up."""
        await self._jobs.close()
        if self._connection is not None:
            await self._connection.close()

    async def _run(self, jobs: Sequence[AnyJob]) -> None:
        for is_last_try in (False, True):
            try:
                connection = await self._connected()
                with cut_after(connection, BATCH_TIMEOUT_S):
                    await self._transact(connection, jobs)
            except psycopg.Error as error:
                # Perhaps committed, perhaps not. The command ids tell the second try which; a third would
                # come after the callers' deadline. A use is not tried again: it would be recorded twice.
                await self._hang_up()
                jobs = _refuse_uses(jobs)
                if is_last_try or not jobs:
                    raise StoreUnavailable("the database did not confirm the append") from error
            except BaseException:
                await self._hang_up()
                raise
            else:
                return

    async def _transact(self, connection: AsyncConnection[TupleRow], jobs: Sequence[AnyJob]) -> None:
        commands = [job for job in jobs if isinstance(job.ask, Command)]
        uses = _Uses(self._registry, self._new_id)
        for job in jobs:
            if isinstance(job.ask, Presented):
                uses.add(job, job.ask)
        outcomes: list[tuple[AnyJob, Outcome | Exception]] = []
        if commands:
            batch = await self._load(connection, [job.ask for job in commands])
            outcomes = [(job, batch.decide(job.ask)) for job in commands]
            rows = await self._store(connection, batch, uses)
        else:
            cursor = await connection.execute(
                append.RECORD_USES, uses.columns(self._clock()), prepare=True, binary=True
            )
            rows = await cursor.fetchall()
        self._on_append()
        self.batch_sizes.append(len(jobs))
        for job, outcome in outcomes:
            if isinstance(outcome, Exception):
                job.fail(outcome)
            else:
                job.resolve(outcome)
        uses.answer(rows)

    async def _load(self, connection: AsyncConnection[TupleRow], commands: Sequence[Command]) -> "_Batch":
        """Begin, take the lock, and read all that the commands need, in one round trip."""
        clock = self._clock()
        reads = list({id_ for command in commands for id_ in command.reads})
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await connection.execute(append.LOCK)
            time = await connection.execute(append.LEDGER_TIME, [clock], prepare=True)
            rows = await connection.execute(append.LOAD, [reads], prepare=True)
            known = await connection.execute(
                append.KNOWN_COMMANDS, [[command.id for command in commands], clock], prepare=True
            )
        at = await time.fetchone()
        assert at is not None
        return _Batch(
            self._registry,
            at=at[0],
            states={
                id_: decode_state(kind, state, version=version, last_used_at=last_used_at, uses=uses)
                for id_, kind, state, version, last_used_at, uses in await rows.fetchall()
            },
            known={row[0]: (row[1], row[2], row[3]) for row in await known.fetchall()},
        )

    async def _store(
        self, connection: AsyncConnection[TupleRow], batch: "_Batch", uses: "_Uses"
    ) -> list[TupleRow]:
        """Write all that the commands decided, then the uses, and commit, in one round trip."""
        recorded: AsyncCursor[TupleRow] | None = None
        async with connection.pipeline():
            for statement, columns in append.writes(self._registry, batch.recorded, batch.changed):
                await connection.execute(statement, columns, prepare=True)
            await connection.execute(
                append.PUT_COMMANDS,
                [
                    batch.at,
                    [command.id for command in batch.executed],
                    [command.attempt for command in batch.executed],
                    [command.originator_id for command in batch.executed],
                    [command.request for command in batch.executed],
                ],
                prepare=True,
            )
            if uses:
                columns = uses.columns(batch.at)
                recorded = await connection.execute(append.RECORD_USES, columns, prepare=True, binary=True)
            await connection.execute("COMMIT")
        return [] if recorded is None else await recorded.fetchall()

    async def _connected(self) -> AsyncConnection[TupleRow]:
        if self._connection is None or not is_alive(self._connection):
            await self._hang_up()
            self._connection = await connect(self._conninfo)
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _refuse_uses(jobs: Sequence[AnyJob]) -> Sequence[AnyJob]:
    """Refuse every use of a batch that was not confirmed; the commands remain."""
    for job in jobs:
        if isinstance(job.ask, Presented):
            job.fail(StoreUnavailable("the database did not confirm the use"))
    return [job for job in jobs if isinstance(job.ask, Command)]


class _Uses:
    """The uses of one batch: those of one secret by one presentation merge into one event with a count."""

    def __init__(self, registry: EventRegistry, new_id: Callable[[], UUID]) -> None:
        self._registry = registry
        self._new_id = new_id
        self._jobs: dict[tuple[bytes, Presentation], list[tuple[AnyJob, Presented]]] = {}
        self._ids: list[UUID] = []

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, job: AnyJob, presented: Presented) -> None:
        """Queue one more."""
        for digest in presented.candidates:
            self._jobs.setdefault((digest, presented.presentation), []).append((job, presented))

    def columns(self, clock: datetime) -> Sequence[Any]:
        """The parameters of RECORD_USES; new ids each time, for a try that is known not to have happened."""
        self._ids = [self._new_id() for _ in self._jobs]
        return (
            clock,
            [digest for digest, _ in self._jobs],
            self._ids,
            [len(jobs) for jobs in self._jobs.values()],
            [
                self._registry.encode(
                    Used(
                        count=len(jobs),
                        # The clock may have gone back since the first one arrived; ledger time is >= clock.
                        first_at=min(clock, *(presented.at for _, presented in jobs)),
                        presentation=how,
                    )
                )
                for (_, how), jobs in self._jobs.items()
            ],
        )

    def answer(self, rows: Sequence[TupleRow]) -> None:
        """Tell everybody, after the commit."""
        groups = list(self._jobs.items())
        for ordinal, token_id, team_id, is_good, at in rows:
            (digest, _), jobs = groups[ordinal - 1]
            use_id = self._ids[ordinal - 1] if is_good else None
            for job, _ in jobs:
                job.resolve(Decision(token_id, team_id, digest, use_id, at))
        for jobs in self._jobs.values():
            for job, _ in jobs:
                job.resolve(None)


class _Batch:
    """One transaction in memory: the states as they evolve, the events that will be stored."""

    def __init__(
        self,
        registry: EventRegistry,
        *,
        at: datetime,
        states: dict[UUID, Aggregate],
        known: dict[UUID, tuple[UUID, UUID, bytes]],
    ) -> None:
        self._registry = registry
        self.at = at
        self.recorded: list[Recorded] = []
        self.changed: dict[UUID, Aggregate] = {}
        self.executed: list[Command] = []
        self._states = states
        self._known = known

    def decide(self, command: Command) -> Outcome | Exception:
        """Let the command decide on the states that those before it left."""
        if command.id in self._known:
            return self._repeat(command)
        try:
            recorded, changed = self._fold(command.decide(self._states, self.at), command.id)
        except Exception as refusal:  # noqa: BLE001 - a rule's no, or our own mistake: neither is the batch's
            return refusal
        self.recorded += recorded
        self._states |= changed
        self.changed |= changed
        self._known[command.id] = (command.attempt, command.originator_id, command.request)
        self.executed.append(command)
        return Outcome(command.originator_id, self._states.get(command.originator_id), is_repeat=False)

    def _fold(self, changes: Changes, command_id: UUID) -> tuple[list[Recorded], dict[UUID, Aggregate]]:
        """The events at their places, and the states that they lead to. Touches nothing of the batch."""
        recorded: list[Recorded] = []
        changed: dict[UUID, Aggregate] = {}
        for aggregate_id, events in changes:
            state = changed.get(aggregate_id) or self._states.get(aggregate_id)
            after = 0 if state is None else state.version
            for new in append.positioned(aggregate_id, after, events, at=self.at, command_id=command_id):
                self._registry.encode(new.event)  # what cannot be stored is this command's failure alone
                state = changed[aggregate_id] = evolve(state, new)
                recorded.append(new)
        return recorded, changed

    def _repeat(self, command: Command) -> Outcome | CommandIdReused:
        attempt, originator_id, request = self._known[command.id]
        if request != command.request:
            return CommandIdReused("the command id was used for another request")
        return Outcome(originator_id, self._states.get(originator_id), is_repeat=attempt != command.attempt)

"""The append gate: decide commands under the append lock and append their events, in groups.

One transaction at a time. While a commit is under way the next batch queues up,
so durability is paid per batch and not per request. Under the append lock nothing else changes the
ledger: a decision is made on the state that it will be stored after, versions never conflict, and a
revoke that was answered is seen by every later batch of every process.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from domain.errors import StoreReadOnly, StoreUnavailable
from domain.event import States
from domain.eventstore import append
from domain.eventstore.aggregates import decode_states
from domain.eventstore.append_faults import AppendFaults
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.command_batch import Command, CommandBatch, Outcome
from domain.eventstore.commit_turn import ALONE, CommitTurn
from domain.eventstore.event_registry import EventRegistry
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.uses import UseLane
from domain.instruments import LedgerInstruments
from domain.postgres import binary_arrays
from domain.postgres.cancellable_connection import cut_after
from domain.postgres.kept_connection import KeptConnection
from domain.postgres.primary import Primary

COMMAND_TIMEOUT_S: Final = 1.8
BATCH_TIMEOUT_S: Final = 0.9


class AppendGate:
    """Group commit for one process, in two lanes: commands, and uses (`uses.py`).

    Each lane has its queue and its connection; the append lock puts their transactions, and those
    of every other process, in one order. So a slow decision never holds up an authentication of the
    same process for longer than its own transaction takes.

    clock: of this process. new_id: a fresh UUID, for a use.
    on_append: called after each commit that may have stored something.
    commit_turn: of the lane of uses. instruments: of both lanes.
    primary: shared by all connections of the process.
    faults: why the database refused the last append, of each lane. A command that succeeds says
    nothing of uses; a use that does is what most requests are here for.
    """

    def __init__(
        self,
        primary: Primary,
        registry: EventRegistry,
        *,
        clock: LedgerClock,
        new_id: Callable[[], UUID],
        on_append: Callable[[], None] = lambda: None,
        commit_turn: CommitTurn = ALONE,
        instruments: LedgerInstruments | None = None,
    ) -> None:
        instruments = instruments or LedgerInstruments()
        self._instruments = instruments.commands
        self._registry = registry
        self._clock = clock
        self._on_append = on_append
        self._kept = KeptConnection(primary)
        self._faults = AppendFaults("commands")
        self._commands: Batcher[Command, Outcome] = Batcher(
            self._run, max_batch=200, instruments=instruments.commands
        )
        self.uses = UseLane(
            primary,
            registry,
            clock=clock,
            new_id=new_id,
            on_append=on_append,
            commit_turn=commit_turn,
            instruments=instruments.uses,
            faults=AppendFaults("uses", vouches_for=self._faults),
        )
        self.faults: Final = (self.uses.faults, self._faults)
        self.batch_sizes: deque[int] = deque(maxlen=1000)

    async def execute(self, command: Command, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Outcome:
        """Decide and store one command. Raises its Refusal, or Unavailable within `timeout_s`."""
        return await self._commands.submit(command, timeout_s=timeout_s)

    async def close(self) -> None:
        """Answer what was accepted, then hang up."""
        await self._commands.close()
        await self._kept.drop()
        await self.uses.close()

    async def _run(self, jobs: Sequence[Job[Command, Outcome]]) -> None:
        for is_last_try in (False, True):
            try:
                connection = await self._kept.get()
                with cut_after(connection, BATCH_TIMEOUT_S):
                    await self._transact(connection, jobs)
            except (psycopg.Error, StoreReadOnly) as error:
                # Perhaps committed, perhaps not: the command ids tell the second try which. A third
                # would come after the callers' deadline.
                await self._kept.drop(error)
                if isinstance(error, psycopg.Error):
                    self._clock.refuse(error)
                    self._faults.failed(error)
                elif is_last_try:
                    raise
                if is_last_try:
                    raise StoreUnavailable("the database did not confirm the append") from error
            except BaseException:
                await self._kept.drop()
                raise
            else:
                return

    async def _transact(
        self, connection: AsyncConnection[TupleRow], jobs: Sequence[Job[Command, Outcome]]
    ) -> None:
        began_at = monotonic_ns()
        batch = await self._load(connection, [job.ask for job in jobs])
        # Those who gave up while it waited for the lock were told that the store is unavailable.
        outcomes = [(job, batch.decide(job.ask)) for job in jobs if not job.answer.done()]
        await self._store(connection, batch)
        self._instruments.append.observe((monotonic_ns() - began_at) // 1000)
        self._kept.confirm()
        self._faults.worked()
        self._on_append()
        self.batch_sizes.append(len(jobs))
        for job, outcome in outcomes:
            if isinstance(outcome, Exception):
                job.fail(outcome)
            else:
                job.resolve(outcome)

    async def _load(
        self, connection: AsyncConnection[TupleRow], commands: Sequence[Command]
    ) -> CommandBatch:
        """Begin, take the lock, and read all that the commands need, in one round trip."""
        clock = self._clock()
        reads = {id_ for command in commands for id_ in command.reads}
        teams = {command.counts for command in commands if command.counts is not None}
        live: AsyncCursor[TupleRow] | None = None
        async with connection.pipeline():
            await connection.execute(append.BEGIN)
            lock = await connection.execute(append.LOCK)
            if teams:  # before the time is asked: what ended between the two still counts
                live = await connection.execute(
                    append.LIVE_TOKENS, [binary_arrays.uuids(teams), clock], prepare=True
                )
            time = await connection.execute(append.TIME_AND_RETIRED_KEYS, [clock], prepare=True)
            rows = await connection.execute(append.LOAD, [binary_arrays.uuids(reads)], prepare=True)
            known = await connection.execute(
                append.KNOWN_COMMANDS,
                [binary_arrays.uuids(command.id for command in commands), clock],
                prepare=True,
            )
        reached = await time.fetchone()
        assert reached is not None
        at, retired = reached
        locked = await lock.fetchone()
        assert locked is not None
        self._instruments.lock_wait.observe(locked[1])
        self._clock.believed()
        return CommandBatch(
            self._registry,
            at=at,
            states=States(
                decode_states(await rows.fetchall()),
                live_tokens=dict.fromkeys(teams, 0)
                | dict(() if live is None else await live.fetchall()),
            ),
            known={row[0]: (row[1], row[2], row[3]) for row in await known.fetchall()},
            retired=frozenset(retired),
        )

    async def _store(self, connection: AsyncConnection[TupleRow], batch: CommandBatch) -> None:
        """Write all that the commands decided, and commit, in one round trip."""
        async with connection.pipeline():
            if batch.moved:
                await connection.execute(
                    append.MOVE_SECRETS, append.moves(batch.moved), prepare=True
                )
            if batch.recorded:
                columns = append.columns(self._registry, batch.recorded, batch.changed, batch.ended)
                await connection.execute(append.STORE, columns, prepare=True)
            if batch.repeated:
                await connection.execute(
                    append.TOUCH_COMMANDS, [binary_arrays.uuids(batch.repeated)], prepare=True
                )
            if batch.executed:
                await connection.execute(
                    append.PUT_COMMANDS,
                    [
                        batch.at,
                        binary_arrays.uuids(command.id for command in batch.executed),
                        binary_arrays.uuids(command.attempt for command in batch.executed),
                        binary_arrays.uuids(command.originator_id for command in batch.executed),
                        binary_arrays.byteas(command.request for command in batch.executed),
                    ],
                    prepare=True,
                )
            await connection.execute("COMMIT")

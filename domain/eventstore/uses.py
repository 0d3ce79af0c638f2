"""Decide and record uses: one statement for all that arrive together.

The rule stays in the domain: every decision of the aggregate leaves its outcome on the secret's
row, and the statement only compares (`tests/domain/eventstore/test_use_contract.py` proves that
both agree for every state).
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic_ns
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
import psycopg
from psycopg.pq.abc import PGresult

from domain.errors import StoreUnavailable
from domain.eventstore.append import RECORD_USES
from domain.eventstore.append_faults import AppendFaults
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.commit_turn import ALONE, CommitTurn
from domain.eventstore.event_registry import EventRegistry
from domain.eventstore.ledger_clock import LedgerClock
from domain.instruments import LaneInstruments
from domain.postgres import binary_arrays
from domain.postgres.cancellable_connection import cut_after
from domain.postgres.kept_connection import KeptConnection
from domain.postgres.prepared_statement import NotExecuted, PreparedStatement
from domain.postgres.primary import Primary
from domain.scim_token.events import Presentation, Used
from domain.secret import secret_id

USE_TIMEOUT_S: Final = 0.45
STATEMENT_TIMEOUT_S: Final = 0.9
_WAIT_MAX: Final = timedelta(seconds=USE_TIMEOUT_S)
_TRUE: Final = b"\x01"


class Presented(msgspec.Struct, frozen=True):
    """A secret that asks to be let in.

    candidates: the digests under which it may be stored. presentation: how it was presented.
    at: when it arrived.
    """

    candidates: Sequence[bytes]
    presentation: Presentation
    at: datetime


class Decision(NamedTuple):
    """What became of a presented secret.

    token, team, use: their ids as text, ready for a header; `token_id`, `team_id`, `use_id`: the
    same as UUIDs. The use is the `Used` event that is committed, None when refused. digest: the
    candidate that is stored. at: ledger time of the decision. is_void: refused for good, and not
    because its time is over.
    """

    token: bytes
    team: bytes
    use: bytes | None
    digest: bytes
    at: datetime
    is_void: bool

    @property
    def token_id(self) -> UUID:
        return UUID(self.token.decode())

    @property
    def team_id(self) -> UUID:
        return UUID(self.team.decode())

    @property
    def use_id(self) -> UUID | None:
        return None if self.use is None else UUID(self.use.decode())


_Job: TypeAlias = Job[Presented, Decision | None]


class UseLane:
    """Group commit of uses for one process, on a connection of its own.

    clock: of this process. new_id: a fresh UUID, for a use.
    on_append: called after each commit that stored something. commit_turn, instruments, faults: see
    `AppendGate`.
    """

    def __init__(
        self,
        primary: Primary,
        registry: EventRegistry,
        *,
        clock: LedgerClock,
        new_id: Callable[[], UUID],
        on_append: Callable[[], None],
        commit_turn: CommitTurn = ALONE,
        instruments: LaneInstruments | None = None,
        faults: AppendFaults | None = None,
    ) -> None:
        self.faults = faults or AppendFaults("uses")
        self._instruments = instruments or LaneInstruments()
        self._registry = registry
        self._clock = clock
        self._new_id = new_id
        self._on_append = on_append
        self._kept = KeptConnection(primary)
        self._record: PreparedStatement | None = None
        self._asks_all = False
        self._commit_turn = commit_turn
        self._jobs: Batcher[Presented, Decision | None] = Batcher(
            self._run, commit_turn=commit_turn, instruments=self._instruments
        )

    def present(
        self, presented: Presented, *, timeout_s: float = USE_TIMEOUT_S
    ) -> Awaitable[Decision | None]:
        """Let a secret in, its use being committed, or not; None when no digest matches.

        Raises Unavailable within `timeout_s`: then it is not let in, whether or not a use was
        recorded.
        """
        return self._jobs.submit(presented, timeout_s=timeout_s)

    async def connect(self) -> None:
        """Have the connection that the next use needs. Raises StoreUnavailable."""
        try:
            await self._kept.open()
        except StoreUnavailable as error:
            self.faults.unreachable(error)
            raise

    async def close(self) -> None:
        """Answer what was accepted, then hang up."""
        await self._jobs.close()
        await self._kept.drop()

    async def _run(self, jobs: Sequence[_Job]) -> None:
        # Under the newest key alone, unless the last batch had secrets under older ones. Whoever is
        # missed is asked for under all at once: meanwhile the secret may have been digested anew.
        missed = await self._ask(jobs, is_all=self._asks_all)
        if missed:
            await self._ask(missed, is_all=True)

    async def _ask(self, jobs: Sequence[_Job], *, is_all: bool) -> Sequence[_Job]:
        """Answer those who are found, or asked for under all keys; returns the others."""
        try:
            try:
                batch, result = await self._execute(jobs, is_all=is_all)
            except NotExecuted as error:
                await self._kept.drop(error.__cause__)
                batch, result = await self._execute(jobs, is_all=is_all)
        except psycopg.Error as error:
            self._clock.refuse(
                error
            )  # before anything was written: the connection is as good as before
            self.faults.failed(error)
            # Perhaps committed, perhaps not. No second try: it would be recorded twice.
            await self._kept.drop(error)
            raise StoreUnavailable("the database did not confirm the use") from error
        self._commit_turn.pass_on()
        self._clock.believed()
        self.faults.worked()
        if batch.answer(result):
            self._on_append()
        self._asks_all = batch.has_older
        return batch.missed

    async def _execute(self, jobs: Sequence[_Job], *, is_all: bool) -> tuple["_Batch", PGresult]:
        try:
            connection = await self._kept.get()
        except StoreUnavailable as error:
            self.faults.unreachable(error)
            raise
        if self._record is None or not self._record.is_on(connection):
            self._record = PreparedStatement(connection, "record_uses", RECORD_USES)
        # Those who gave up while it connected were told that the store is unavailable.
        waiting = [job for job in jobs if not job.answer.done()]
        if not waiting:
            raise StoreUnavailable("the database did not accept a connection in time")
        batch = _Batch(waiting, is_all=is_all)
        began_at = monotonic_ns()
        with cut_after(connection, STATEMENT_TIMEOUT_S):
            result = await self._record(
                batch.parameters(self._registry, self._clock(), self._new_id)
            )
        self._kept.confirm()
        self._instruments.append.observe((monotonic_ns() - began_at) // 1000)
        waited = result.get_value(0, 6) if result.ntuples else None
        self._instruments.lock_wait.observe(
            0 if waited is None else binary_arrays.read_bigint(waited)
        )
        return batch, result


class _Batch:
    """Uses that go together: those of one secret by one presentation merge into
    one event with a count.

    A secret is asked for by its newest candidate, or by each, under the same use id: one of them is
    stored. missed: those who were not found, and may be under another key. has_older: somebody was
    found under one.
    """

    def __init__(self, jobs: Sequence[_Job], *, is_all: bool) -> None:
        groups: dict[tuple[bytes, Presentation], list[_Job]] = {}
        for job in jobs:
            presented = job.ask
            groups.setdefault((presented.candidates[0], presented.presentation), []).append(job)
        self._groups = [*groups.values()]
        self._keys = None if is_all else 1
        self._asked = [
            (digest, group)
            for group in self._groups
            for digest in group[0].ask.candidates[: self._keys]
        ]
        self.missed: list[_Job] = []
        self.has_older = False
        self._ids: list[UUID] = []

    def parameters(
        self, registry: EventRegistry, clock: datetime, new_id: Callable[[], UUID]
    ) -> Sequence[bytes]:
        """Binary parameters of RECORD_USES: clock, digests, use ids, counts, stored events."""
        for group in self._groups:
            self._ids += [new_id()] * len(group[0].ask.candidates[: self._keys])
        return (
            binary_arrays.instant(clock),
            binary_arrays.byteas(digest for digest, _ in self._asked),
            binary_arrays.uuids(self._ids),
            binary_arrays.integers(len(jobs) for _, jobs in self._asked),
            binary_arrays.byteas(
                [
                    registry.encode(
                        # The clock may have jumped since the first one arrived; nobody waits for
                        # longer.
                        Used(
                            len(jobs),
                            min(clock, max(jobs[0].ask.at, clock - _WAIT_MAX)),
                            jobs[0].ask.presentation,
                            secret_id(digest),
                        )
                    )
                    for digest, jobs in self._asked
                ],
            ),
        )

    def answer(self, result: PGresult) -> bool:
        """Tell everybody, after the commit; whether a use was recorded."""
        is_recorded = False
        value: Callable[[int, int], Any] = result.get_value
        at = binary_arrays.read_instant(value(0, 4)) if result.ntuples else None
        for row in range(result.ntuples):
            ordinal = binary_arrays.read_integer(value(row, 0)) - 1
            digest, jobs = self._asked[ordinal]
            assert at is not None, "all were decided at one instant"
            is_good = value(row, 3) == _TRUE
            is_recorded |= is_good
            self.has_older |= digest != jobs[0].ask.candidates[0]
            decision = Decision(
                value(row, 1),
                value(row, 2),
                str(self._ids[ordinal]).encode() if is_good else None,
                digest,
                at,
                value(row, 5) == _TRUE,
            )
            for job in jobs:
                job.resolve(decision)
        for jobs in self._groups:
            is_done = self._keys is None or len(jobs[0].ask.candidates) == self._keys
            for job in jobs:
                if is_done:
                    job.resolve(None)
                elif not job.answer.done():
                    self.missed.append(job)
        return is_recorded

"""Commands that are decided together: what one asks, and the transaction that they make in memory.

Nothing here speaks to the database; `gate.py` loads what a batch decides on, and stores it.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from domain.errors import CommandIdReused, PepperMismatch, Refusal
from domain.event import Aggregate, Changes, Event, Recorded, States
from domain.eventstore import append
from domain.eventstore.aggregates import EndedSecret, MovedSecret, fold_rows, key_generation
from domain.eventstore.event_registry import EventRegistry


@dataclass(frozen=True, slots=True)
class Command:
    """A decision to be taken under the append lock.

    id: repeated with the same `request`, the command has one effect.
    attempt: random, new for every `Command` object; tells our own second try from a caller's
    repeat. originator_id: the aggregate that it is about; for a creation, an id that was never
    used.
    reads: every aggregate that `decide` looks at. counts: the team whose live tokens it counts,
    None for none. request: digest of what is asked, for telling
    reuse. decide: states by id and the ledger's instant in, events per aggregate out, or a Refusal
    raised.
    """

    id: UUID
    attempt: UUID
    originator_id: UUID
    reads: frozenset[UUID]
    request: bytes
    decide: Callable[[States, datetime], Changes]
    counts: UUID | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command.

    originator_id: of the execution that had the effect. state: of that aggregate, None when it was
    not read. is_repeat: another attempt had the effect; this one changed nothing.
    """

    originator_id: UUID
    state: Aggregate | None
    is_repeat: bool


class _Folded(NamedTuple):
    """The events of a command at their places, the states that they lead to, and the rows of
    secrets that move or end with them.
    """

    recorded: list[Recorded]
    changed: dict[UUID, Aggregate]
    moved: list[MovedSecret]
    ended: list[EndedSecret]


class CommandBatch:
    """One transaction in memory: the states as they evolve, the events that will be stored.

    retired: the generations of the pepper whose keys were; nothing is digested under them.
    """

    def __init__(
        self,
        registry: EventRegistry,
        *,
        at: datetime,
        states: States,
        known: dict[UUID, tuple[UUID, UUID, bytes]],
        retired: AbstractSet[int] = frozenset(),
    ) -> None:
        self._registry = registry
        self.at = at
        self.recorded: list[Recorded] = []
        self.changed: dict[UUID, Aggregate] = {}
        self.moved: list[MovedSecret] = []
        self.ended: list[EndedSecret] = []
        self.executed: list[Command] = []
        self.repeated: set[UUID] = set()
        self._states = states
        self._known = known
        self._retired = retired

    def decide(self, command: Command) -> Outcome | Exception:
        """Let the command decide on the states that those before it left."""
        if command.id in self._known:
            return self._repeat(command)
        try:
            folded = self._fold(command.decide(self._states, self.at), command.id)
        except Refusal as refusal:
            return refusal.with_traceback(None)  # which would keep all that the batch has loaded
        except Exception as mistake:  # noqa: BLE001 - of ours; it is not the batch's
            return mistake
        self.recorded += folded.recorded
        self.moved += folded.moved
        self.ended += folded.ended
        self._states.follow(folded.changed, at=self.at)
        self.changed |= folded.changed
        self._known[command.id] = (command.attempt, command.originator_id, command.request)
        self.executed.append(command)
        return Outcome(
            command.originator_id, self._states.get(command.originator_id), is_repeat=False
        )

    def _fold(self, changes: Changes, command_id: UUID) -> _Folded:
        """Touches nothing of the batch."""
        folded = _Folded([], {}, [], [])
        for aggregate_id, events in changes:
            before = folded.changed.get(aggregate_id) or self._states.get(aggregate_id)
            after = 0 if before is None else before.version
            for new in append.positioned(
                aggregate_id, after, events, at=self.at, command_id=command_id
            ):
                # What cannot be stored is this command's failure alone.
                self._registry.encode(new.event)
                self._require_key(new.event)
                before = folded.changed[aggregate_id] = fold_rows(
                    before, new, moved=folded.moved, ended=folded.ended
                )
                folded.recorded.append(new)
        return folded

    def _require_key(self, event: Event) -> None:
        """Else a process without the newest key could make what nobody can let in."""
        generation = key_generation(event)
        if generation is not None and generation in self._retired:
            raise PepperMismatch(
                f"the newest key of this process is of generation {generation}, which was retired: "
                "restart it with every key that the ledger knows"
            )

    def _repeat(self, command: Command) -> Outcome | CommandIdReused:
        attempt, originator_id, request = self._known[command.id]
        if request != command.request:
            return CommandIdReused("the command id was used for another request")
        self.repeated.add(command.id)
        return Outcome(
            originator_id, self._states.get(originator_id), is_repeat=attempt != command.attempt
        )

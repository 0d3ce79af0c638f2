"""The decision on a report of leaked secrets: one command for all of them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.event import Actor, Aggregate, Changes, Event, Recorded, States
from domain.eventstore.aggregates import evolve
from domain.leaks.holder import Holder, Token
from domain.scim_token.events import Leaked
from domain.scim_token.leak import Leak
from domain.secret import Secret

REPORTS_MAX: Final = 100


class LeakReport(msgspec.Struct, frozen=True):
    """A secret that somebody found, and where."""

    secret: Secret
    leak: Leak


class LeakAnswer(msgspec.Struct, frozen=True):
    """What became of a reported secret that the caller may know of.

    state: how it stood before, see `Holder.state`. action: "revoked", "marked" or "none".
    """

    token_id: UUID
    state: str
    action: str


def decide(
    found: Iterable[tuple[Holder, Leak]],
    states: States,
    *,
    actors: Mapping[UUID, Actor],
    revokes: bool,
    at: datetime,
) -> tuple[Changes, Sequence[LeakAnswer]]:
    """The events of a report, and the answer for each secret in it.

    found: who held each secret when it was looked up. states: as they stand when this is decided.
    actors: who signs the change of each token.
    """
    changes: list[tuple[UUID, Sequence[Event]]] = []
    answers: list[LeakAnswer] = []
    current: dict[UUID, Aggregate] = dict(states)
    for holder, leak in found:
        token = current[holder.token.id]
        assert isinstance(token, Token)
        now = Holder(token, holder.candidates)
        events = now.report(leak, by=actors[token.id], revokes=revokes, at=at)
        # One token may be in a report twice: each entry is decided after those before it.
        for event in events:
            before = current[token.id]
            current[token.id] = evolve(
                before, Recorded(token.id, before.version + 1, at, token.id, event)
            )
        changes.append((token.id, events))
        answers.append(LeakAnswer(token.id, now.state(at=at), _action(events)))
    return changes, answers


def _action(events: Sequence[Event]) -> str:
    if not events:
        return "none"
    return "marked" if all(isinstance(event, Leaked) for event in events) else "revoked"

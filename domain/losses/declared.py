"""The aggregate `DeclaredLosses`: which stretches of the ledger are lost, on whose word. Pure.

A restore of an older state takes away what was recorded since, revocations included. Nobody is let
in before an operator has said so, and what they said stays in the ledger.
"""

from collections.abc import Sequence
from typing import ClassVar, Final
from uuid import UUID, uuid5

import msgspec

from domain.event import Actor, Event, Recorded, WithoutSecrets, next_version
from domain.scim_token.values import check_reason

LOSSES_ID: Final = uuid5(UUID("a1f6b0de-58f5-4c0b-8a3e-0d7d2f0c9b11"), "losses")
"""The one stream of it; the function `ledger.require_known` (0017) knows it, too."""


class KnownEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event that somebody has seen committed, by what no repair changes: no instant, no bytes.

    position: its notification id, at least 1.
    """

    position: int
    originator_id: UUID
    originator_version: int
    command_id: UUID


class LossDeclared(Event, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The ledger was restored from an older state, and goes on without what it had recorded since.

    after: the last position that it had when this was declared; None where other events had been
    recorded in the place of the lost ones, so that nobody can tell where the loss begins.
    until: the last position that anybody is known to have seen. This event and all later ones have
    greater positions. known: the event that the host's head file names, None where there was none.
    """

    topic: ClassVar[str] = "ledger.loss_declared.v1"
    after: int | None
    until: int
    known: KnownEvent | None
    declared_by: Actor
    reason: str


EVENTS: Final[Sequence[type[Event]]] = (LossDeclared,)


class DeclaredLosses(WithoutSecrets, frozen=True):
    """State after `version` events."""

    id: UUID
    version: int


class Loss(msgspec.Struct, frozen=True):
    """What is missing. Fields as in `LossDeclared`."""

    after: int | None
    until: int
    known: KnownEvent | None


def declare(loss: Loss, *, by: Actor, reason: str) -> list[LossDeclared]:
    """Write down what is lost. Raises InvalidValue on a reason that is none."""
    check_reason(reason)
    return [
        LossDeclared(
            after=loss.after,
            until=loss.until,
            known=loss.known,
            declared_by=by,
            reason=reason,
        )
    ]


def in_words(loss: Loss | LossDeclared) -> str:
    """The stretch for the audit trail, e.g. "events 121 to 150"."""
    if loss.after is None:
        return f"events up to {loss.until}, from where on is not known"
    return f"events {loss.after + 1} to {loss.until}"


def evolve(losses: DeclaredLosses | None, recorded: Recorded) -> DeclaredLosses:
    """Fold one recorded event into the state."""
    assert isinstance(recorded.event, LossDeclared), recorded.event
    return DeclaredLosses(recorded.originator_id, next_version(losses, recorded))

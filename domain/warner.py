"""Append warnings: the ledger's side of the process that finds out what is due.

Needs no pepper, since no warning is about a secret's text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self
from uuid import UUID, uuid5

from domain.authority import scim_token_of
from domain.event import Changes, Event, States
from domain.eventstore.command_batch import Command
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.gate import AppendGate
from domain.eventstore.ledger_clock import LedgerClock
from domain.postgres.primary import Primary
from domain.scim_token.token import ScimToken

_WARNINGS: Final = UUID("5f0c7f5e-0d1c-4c3b-9a47-2f6b3b0f7a52")
"""The namespace of their command ids."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something that may have to be told of a token.

    cause: what makes two of a token the same, in whichever process and at whatever time.
    decide: what follows for the token at an instant; nothing where it is not true or told already.
    """

    token_id: UUID
    cause: str
    decide: Callable[[ScimToken, datetime], Sequence[Event]]


class Warner:
    """Decides what is due, each by an ordinary command. new_id: a fresh UUID."""

    def __init__(self, primary: Primary, clock: LedgerClock, *, new_id: Callable[[], UUID]) -> None:
        self._new_id = new_id
        self._gate = AppendGate(primary, REGISTRY, clock=clock, new_id=new_id)

    async def warn(self, due: Due) -> None:
        """Decide and store; repeated with the same cause, it has one effect.

        Raises NotFound for a token that does not exist, Unavailable.
        """

        def decide(states: States, at: datetime) -> Changes:
            token = scim_token_of(states, due.token_id)
            return [(due.token_id, due.decide(token, at))]

        await self._gate.execute(
            Command(
                id=uuid5(_WARNINGS, f"{due.token_id}/{due.cause}"),
                attempt=self._new_id(),
                originator_id=due.token_id,
                reads=frozenset({due.token_id}),
                request=b"",
                decide=decide,
            )
        )

    async def aclose(self) -> None:
        """Hang up."""
        await self._gate.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

"""The process that looks for rotations which have finished by themselves, beside the services."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID, uuid4

from domain.event import Event
from domain.scim_token.rotation import FinishRule, SecretsInUse, finish
from domain.scim_token.token import ScimToken
from domain.secret import Pepper, parse, secret_id
from domain.warner import Due, Warner

Decide: TypeAlias = Callable[[ScimToken, SecretsInUse, datetime], Sequence[Event]]
AT_ONCE: Final = FinishRule(used_apart=timedelta(0), silent_for=timedelta(0))
"""Figures that are met at once: a history takes milliseconds."""


def by_the_rule(token: ScimToken, in_use: SecretsInUse, at: datetime) -> Sequence[Event]:
    """What the domain decides."""
    return finish(token, in_use, at=at, rule=AT_ONCE)


class Finisher:
    """Has finishes decided, each by a command of its own.

    That one is decided once is left to the token's state, for the product's ids would hide it.
    """

    def __init__(self, warner: Warner, pepper: Pepper, *, decide: Decide = by_the_rule) -> None:
        self._warner = warner
        self._pepper = pepper
        self._decide = decide

    async def finish(self, token_id: UUID, newer: str) -> bool:
        """Whether the rotation that made this secret was finished by this."""
        name = secret_id(self._pepper.digest(parse(newer)).value)
        events: Sequence[Event] = ()

        def decide(token: ScimToken, at: datetime) -> Sequence[Event]:
            nonlocal events
            in_use = SecretsInUse(name, None, at, at)
            events = self._decide(token, in_use, at)
            return events

        await self._warner.warn(Due(token_id, f"finish/{uuid4()}", decide))
        return bool(events)

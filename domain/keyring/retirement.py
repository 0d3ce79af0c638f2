"""The `Keyring` aggregate: what became of the keys of the pepper. Pure.

A ledger has one. Which keys it knows is in `ledger.pepper_generations`, which every connection
reads; the retirement of one is a fact besides.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

import msgspec

from domain.errors import LedgerError
from domain.event import Actor, Event, Recorded, WithoutSecrets, next_version
from domain.scim_token.values import check_reason

KEYRING_ID: Final = UUID("b7c1f6a4-0a58-4f0e-8d55-2f4c6a0f9e31")


class NotRetirable(LedgerError):
    """A key of the pepper cannot be retired as things are; the text says what to do first."""


class Retired(Event, frozen=True, forbid_unknown_fields=True):
    """A key of the pepper need not be given any more: no secret that could be let in is under it.

    generation: which key. retired_by: who, at the command line. reason: why, 1 to 200 characters.
    """

    topic: ClassVar[str] = "pepper.retired.v1"
    generation: int
    retired_by: Actor
    reason: str


EVENTS: Final[Sequence[type[Event]]] = (Retired,)


class Keyring(WithoutSecrets, frozen=True):
    """State after `version` events."""

    id: UUID
    version: int


class Holders(msgspec.Struct, frozen=True):
    """Whose secrets, and setup links, are digested under a key and could be let in.

    count: of the digests. some: kind and token of a few of them.
    """

    count: int
    some: Sequence[tuple[str, UUID]]


def retire(
    generation: int,
    *,
    known: Mapping[int, datetime | None],
    holders: Holders,
    by: Actor,
    reason: str,
) -> list[Retired]:
    """Retire a key; silent where it is retired.

    known: each generation of the ledger, and when it was retired. Raises NotRetirable on one that
    is unknown, the newest, or still needed; InvalidValue on a reason that `check_reason` refuses.
    """
    check_reason(reason)
    if generation not in known:
        raise NotRetirable(f"the ledger knows no key of generation {generation}")
    if generation == max(known):
        raise NotRetirable(
            f"the key of generation {generation} is the newest, under which new secrets are "
            "digested: add another first (docs/how-to/rotate-the-pepper.md)"
        )
    if known[generation] is not None:
        return []
    if holders.count:
        raise NotRetirable(_still_needed(generation, holders))
    return [Retired(generation, by, reason)]


def _still_needed(generation: int, holders: Holders) -> str:
    some = ", ".join(f"{kind.replace('_', ' ')} {id_}" for kind, id_ in holders.some)
    more = ", …" if holders.count > len(holders.some) else ""
    digests = "1 digest" if holders.count == 1 else f"{holders.count} digests"
    return (
        f"the key of generation {generation} still has {digests} that could be let in "
        f"({some}{more}): use, rotate or revoke these tokens, and let their setup links end, first"
    )


def evolve(keyring: Keyring | None, recorded: Recorded) -> Keyring:
    """Fold one recorded event into the state."""
    assert isinstance(recorded.event, Retired), recorded.event
    return Keyring(recorded.originator_id, next_version(keyring, recorded))

"""What an event is, and where it stands in the ledger."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Protocol, TypeAlias
from uuid import UUID

import msgspec


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fact about one aggregate, in the past participle. Holds no secret and no position.

    topic: stable dotted tag with a version; never changes once an event was stored under it.
    """

    topic: ClassVar[str]


class Recorded(msgspec.Struct, frozen=True):
    """An event at its place in the ledger.

    originator_id, originator_version: the aggregate and the position in its stream, from 1, dense.
    at: ledger time, aware UTC, whole milliseconds; never smaller than that of any earlier event.
    command_id: the command (or the use) that caused it.
    """

    originator_id: UUID
    originator_version: int
    at: datetime
    command_id: UUID
    event: Event


class Actor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who gave a command: the user, and the API token that the user's call presented.

    At the command line there is no API token, and no user unless one was named.
    source, user_agent: of the call, as in `Presentation`.
    operator: user and host of the operating system that a command line ran on, e.g. "root@db1".
    """

    user_id: UUID | None
    api_token_id: UUID | None
    source: str | None = None
    user_agent: str | None = None
    operator: str | None = None


class SecretRow(msgspec.Struct, frozen=True):
    """What the gate's set-based statement knows of one secret.

    digest: 32 bytes.
    good_until: the first instant at which it no longer authenticates; None for no end.
    is_void: it never authenticates again, whatever `good_until` says.
    networks: from which alone it authenticates, in CIDR notation; from any where there is none.
    """

    digest: bytes
    good_until: datetime | None
    is_void: bool
    networks: tuple[str, ...] = ()


class Aggregate(Protocol):
    """State of one aggregate after some version of its stream. Immutable.

    id, version: as in the last `Recorded` that it evolved from.
    last_used_at, uses: kept by the set-based statement too, hence the same names for every
    aggregate.
    """

    @property
    def id(self) -> UUID: ...
    @property
    def version(self) -> int: ...
    @property
    def last_used_at(self) -> datetime | None: ...
    @property
    def uses(self) -> int: ...
    @property
    def stream_team(self) -> UUID | None:
        """The team that a success speaks for, or None where teams do not apply."""

    def secret_rows(self) -> Sequence[SecretRow]:
        """How each secret of the aggregate stands now."""


class WithoutSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What every aggregate that has no secret says of itself: it is never used."""

    last_used_at: datetime | None = None
    uses: int = 0

    @property
    def stream_team(self) -> None:
        """No secret speaks for it."""

    def secret_rows(self) -> list[SecretRow]:
        """None."""
        return []


def next_version(before: Aggregate | None, recorded: Recorded) -> int:
    """The version that an event leads to, which is the next one: a stream is dense."""
    after = 0 if before is None else before.version
    assert recorded.originator_version == after + 1, "a stream is dense"
    return recorded.originator_version


class States(dict[UUID, Aggregate]):
    """The aggregates that a command reads, as they stand when it is decided.

    live_tokens: of each team that the command counts, how many of its tokens authenticate now.
    """

    def __init__(
        self,
        states: Mapping[UUID, Aggregate] | None = None,
        *,
        live_tokens: Mapping[UUID, int] | None = None,
    ) -> None:
        super().__init__(states or {})
        self.live_tokens = dict(live_tokens or {})

    def follow(self, changed: Mapping[UUID, Aggregate], *, at: datetime) -> None:
        """What a command changed is what the next one reads, the counts included."""
        for id_, after in changed.items():
            team = after.stream_team
            if team in self.live_tokens:
                before = self.get(id_)
                self.live_tokens[team] += is_live(after, at) - (
                    before is not None and is_live(before, at)
                )
        self.update(changed)


def is_live(aggregate: Aggregate, at: datetime) -> bool:
    """Whether a secret of the aggregate authenticates at `at`."""
    return any(
        not row.is_void and (row.good_until is None or at < row.good_until)
        for row in aggregate.secret_rows()
    )


Changes: TypeAlias = Sequence[tuple[UUID, Sequence[Event]]]
"""What a command decided: the events that follow in each stream."""

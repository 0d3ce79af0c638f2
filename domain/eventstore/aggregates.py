"""The kinds of aggregate, and the rows that hold their current state."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from domain import policy
from domain.api_token import events as api_token_events
from domain.api_token import token as api_token
from domain.archive import extended as archive
from domain.event import Aggregate, Event, Recorded, SecretRow
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.refusals import tally as refusal_tally
from domain.scim_token import fold
from domain.scim_token.events import Created, Rekeyed, Rotated, SetupLinkCreated
from domain.scim_token.token import ScimToken


class AggregateKind(msgspec.Struct, frozen=True):
    """How one kind of aggregate is folded and stored.

    name: first part of its events' topics. state: its struct. evolve: folds one recorded event.
    """

    name: str
    state: type[Any]
    evolve: Callable[[Any, Recorded], Aggregate]


KINDS: Final = {
    kind.name: kind
    for kind in (
        AggregateKind("scim_token", ScimToken, fold.evolve),
        AggregateKind("api_token", api_token.ApiToken, api_token.evolve),
        AggregateKind("policy", policy.Policy, policy.evolve),
        AggregateKind("pepper", keyring.Keyring, keyring.evolve),
        AggregateKind("ledger", losses.DeclaredLosses, losses.evolve),
        AggregateKind("archive", archive.Archive, archive.evolve),
        AggregateKind("refusal_tally", refusal_tally.RefusalTally, refusal_tally.evolve),
    )
}
_NAMES: Final[dict[type[Any], str]] = {kind.state: kind.name for kind in KINDS.values()}
_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoders: Final = {kind.name: msgspec.json.Decoder(kind.state) for kind in KINDS.values()}


def kind_of(recorded: Recorded) -> AggregateKind:
    """The kind of aggregate that an event belongs to."""
    return KINDS[recorded.event.topic.partition(".")[0]]


def name_of(aggregate: Aggregate) -> str:
    """The name of an aggregate's kind."""
    return _NAMES[type(aggregate)]


def evolve(aggregate: Aggregate | None, recorded: Recorded) -> Aggregate:
    """Fold one recorded event into the state of whichever aggregate it belongs to."""
    return kind_of(recorded).evolve(aggregate, recorded)


def past_gap(aggregate: Aggregate, version: int) -> Aggregate:
    """The aggregate behind events that are in the archive alone: uses and refusals, whose last
    ones the ledger still has. How often it was used is of those alone that it has.
    """
    found: Aggregate = msgspec.structs.replace(aggregate, version=version)  # type: ignore[type-var]
    return found


def encode_state(aggregate: Aggregate) -> bytes:
    """The bytes of the `aggregates` row."""
    return _encoder.encode(aggregate)


class EndedSecret(NamedTuple):
    """A secret that its aggregate let go: its row stands as it ended, for good."""

    originator_id: UUID
    row: SecretRow


def ended_secrets(before: Aggregate | None, after: Aggregate, event: Event) -> list[EndedSecret]:
    """What the state let go with this event. before: the state that it follows.

    Whoever folds several events at once stores these, too: the last state tells nothing of them.
    """
    if before is None or not isinstance(event, Rotated | api_token_events.Rotated):
        return []
    held = {row.digest for row in after.secret_rows()}
    return [EndedSecret(after.id, row) for row in before.secret_rows() if row.digest not in held]


class MovedSecret(NamedTuple):
    """A secret that was digested anew: its row goes on under the new digest.

    before, after: digests. shown_as: what the secret is called.
    """

    before: bytes
    after: bytes
    shown_as: str


def moved_secrets(before: Aggregate | None, event: Event) -> list[MovedSecret]:
    """The rows that move with this event. before: the state that it follows."""
    match event, before:
        case Rekeyed(), ScimToken():
            held = [(each.digest, each.id) for each in before.secrets]
        case api_token_events.Rekeyed(), api_token.ApiToken():
            held = [*before.held]
        case _:
            return []
    return [
        MovedSecret(digest.value, event.digest.value, event.secret)
        for digest, name in held
        if name == event.secret
    ]


def fold_rows(
    before: Aggregate | None,
    recorded: Recorded,
    *,
    moved: list[MovedSecret],
    ended: list[EndedSecret],
) -> Aggregate:
    """`evolve`, for whoever stores or compares rows: those of secrets that move or end with the
    event, of which the state tells nothing, are added to `moved` and `ended`.
    """
    after = evolve(before, recorded)
    moved += moved_secrets(before, recorded.event)
    ended += ended_secrets(before, after, recorded.event)
    return after


def key_generation(event: Event) -> int | None:
    """Which key of the pepper digested what the event makes; None where it makes nothing."""
    match event:
        case SetupLinkCreated():
            return event.key_generation
        case Created() | Rotated() | Rekeyed():
            return event.digest.key_generation
        case api_token_events.Created() | api_token_events.Rotated() | api_token_events.Rekeyed():
            return event.digest.key_generation
        case _:
            return None


def decode_state(
    kind: str, state: bytes, *, version: int, last_used_at: datetime | None, uses: int
) -> Aggregate:
    """The aggregate of a row; the head's three columns win, because a use moves nothing else."""
    aggregate = _decoders[kind].decode(state)
    if isinstance(aggregate, ScimToken) and aggregate.rotated_at is not None:
        # An earlier release held every secret that there ever was.
        secrets = aggregate.unended_secrets(aggregate.rotated_at)
        aggregate = msgspec.structs.replace(aggregate, secrets=secrets)
    found: Aggregate = msgspec.structs.replace(
        aggregate, version=version, last_used_at=last_used_at, uses=uses
    )
    return found


def decode_states(rows: Iterable[Sequence[Any]]) -> dict[UUID, Aggregate]:
    """The aggregates of rows as `append.LOAD` returns them, by id."""
    return {
        id_: decode_state(kind, state, version=version, last_used_at=last_used_at, uses=uses)
        for id_, kind, state, version, last_used_at, uses in rows
    }

"""The registry of events: topic to struct, to bytes and back.

Strict, so that nothing is misread.

An unknown topic, an unknown field or a wrong type stops the reader (`UnreadableEvent`): a ledger
that skips what it does not understand is not a ledger. Resolving a topic never imports anything
that the database names.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import lru_cache
from itertools import chain
from typing import Final

import msgspec

from domain import policy
from domain.api_token import events as api_token
from domain.archive import extended as archive
from domain.errors import LedgerError
from domain.event import Event
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token import warnings

REMEMBERED: Final = 8192
"""Events: more than a batch of the runner, whose views ask one after the other."""


class UnreadableEvent(LedgerError):
    """Stored bytes are not an event that this release can read."""


class Upcaster(msgspec.Struct, frozen=True):
    """How an older version of an event becomes the newest one, for old and new readers alike.

    stored: the struct that the old bytes decode to; its topic is the old one.
    upcast: one function, old struct in, newest struct out.
    """

    stored: type[Event]
    upcast: Callable[[Event], Event]


class EventRegistry:
    """Encodes and decodes the events it was given, and nothing else."""

    def __init__(self, events: Sequence[type[Event]], upcasters: Sequence[Upcaster] = ()) -> None:
        self._encoder = msgspec.json.Encoder(order="deterministic")
        stored = {
            event.topic: event
            for event in chain(events, (upcaster.stored for upcaster in upcasters))
        }
        assert len(stored) == len(events) + len(upcasters), "two events share a topic"
        self._current = frozenset(events)
        self._decoders: Mapping[str, msgspec.json.Decoder[Event]] = {
            topic: msgspec.json.Decoder(event) for topic, event in stored.items()
        }
        self._upcasts = {upcaster.stored.topic: upcaster.upcast for upcaster in upcasters}
        self._read: Callable[[str, bytes], Event] = self._decode

    @property
    def topics(self) -> frozenset[str]:
        """Every topic that can be read, old versions included."""
        return frozenset(self._decoders)

    def encode(self, event: Event) -> bytes:
        """The bytes to store: UTF-8 JSON of the event's own fields."""
        assert type(event) in self._current, (
            f"{type(event)} is not in the registry, or no longer current"
        )
        return self._encoder.encode(event)

    def decode(self, topic: str, state: bytes) -> Event:
        """The newest form of a stored event.

        Raises UnreadableEvent, naming the topic and never the bytes.
        """
        return self._read(topic, state)

    def remembering(self) -> "EventRegistry":
        """The same for several readers of one batch:
        what is asked for again is not decoded again.
        """
        same = copy(self)
        same._read = lru_cache(REMEMBERED)(self._decode)  # noqa: SLF001 - of our own copy
        return same

    def _decode(self, topic: str, state: bytes) -> Event:
        decoder = self._decoders.get(topic)
        if decoder is None:
            raise UnreadableEvent(f"no event is registered under the topic {topic!r}")
        try:
            event = decoder.decode(state)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableEvent(
                f"the stored state of a {topic} is not what its version holds"
            ) from error
        upcast = self._upcasts.get(topic)
        return event if upcast is None else upcast(event)


REGISTRY = EventRegistry(
    [
        *scim_token.EVENTS,
        *warnings.EVENTS,
        *api_token.EVENTS,
        *policy.EVENTS,
        *keyring.EVENTS,
        *losses.EVENTS,
        *archive.EVENTS,
        *refusal_tally.EVENTS,
    ]
)

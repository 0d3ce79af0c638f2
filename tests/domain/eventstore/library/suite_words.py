"""Our recorder in the words of the library's suite.

The suite writes what no ledger of ours takes: `("topic1", b"state1")`, from version 0 on, without
an instant or a command. `InTheSuitesWords` puts an event of ours in the place of each and names it
back when it is read. Everything else is `LedgerRecorder`: rows, order, locks, errors, answers.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from eventsourcing.persistence import Notification, StoredEvent

from domain.api_token import events as api_token
from domain.event import Actor, Event, Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.library.mapper import LedgerMapper
from domain.eventstore.library.recorder import LedgerRecorder
from domain.refusals.tally import Counted
from domain.scim_token import events as scim_token
from domain.scim_token.events import Presentation
from domain.secret import Digest
from tests.domain.scenario import ADA, T0, TEAM_ID


class Word(NamedTuple):
    """What stands for a topic of the suite.

    topic: ours. event: of a stream, with the suite's state in one of its fields. state: that field.
    """

    topic: str
    event: Callable[[UUID, str], Event]
    state: Callable[[Any], str]


def _scim_token_created(id_: UUID, state: str) -> Event:
    return scim_token.Created(
        team_id=TEAM_ID,
        name=state,
        created_by=ADA,
        digest=Digest(id_.bytes * 2, 1),
        expires_at=None,
    )


def _api_token_created(id_: UUID, state: str) -> Event:
    return api_token.Created(
        user_id=uuid4(),
        teams=None,
        permissions=(),
        digest=Digest(id_.bytes * 2, 1),
        created_by=Actor(None, None, operator=state),
        expires_at=None,
    )


def _counted(_: UUID, state: str) -> Event:
    return Counted(reason="unknown", door=state, minute=T0, count=1)


def _used(_: UUID, state: str) -> Event:
    return scim_token.Used(count=1, first_at=T0, presentation=Presentation(door=state))


def _revoked(_: UUID, state: str) -> Event:
    return scim_token.Revoked(revoked_by=ADA, reason=state)


BEGINS: Final = Word("scim_token.created.v1", _scim_token_created, lambda event: event.name)
FOLLOWS: Final = Word("scim_token.used.v1", _used, lambda event: event.presentation.door)
ENDS: Final = Word("scim_token.revoked.v1", _revoked, lambda event: event.reason)
BEGINS_ANOTHER: Final = Word(
    "api_token.created.v1", _api_token_created, lambda event: event.created_by.operator
)
ANYWHERE: Final = Word("refusal_tally.counted.v1", _counted, lambda event: event.door)
"""The one event of ours that is first, second and any other of its stream."""


class InTheSuitesWords(LedgerRecorder):
    """words: what stands for each topic that the suite writes."""

    LOCK_TIMEOUT = timedelta(seconds=10)  # ten writers of a test share two processors with others

    def __init__(self, *arguments: Any, words: Mapping[str, Word]) -> None:
        super().__init__(*arguments)
        self._words = words
        self._suites = {word.topic: topic for topic, word in words.items()}

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        return super().insert_events([self._ours(event) for event in stored_events], **kwargs)

    def select_events(  # type: ignore[override]  # it answers in the suite's words
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        gt, lte = (None if bound is None else bound + 1 for bound in (gt, lte))
        found = super().select_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
        return [
            StoredEvent(
                originator_id=event.originator_id,
                originator_version=event.originator_version - 1,
                **self._said(event),
            )
            for event in found
        ]

    def select_notifications(  # type: ignore[override]  # likewise
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        found = super().select_notifications(
            start,
            limit,
            stop,
            [self._words[topic].topic for topic in topics],
            inclusive_of_start=inclusive_of_start,
        )
        return [
            Notification(
                id=event.id,
                originator_id=event.originator_id,
                originator_version=event.originator_version - 1,
                **self._said(event),
            )
            for event in found
        ]

    def _ours(self, event: StoredEvent) -> StoredEvent:
        assert isinstance(event.originator_id, UUID)
        ours = self._words[event.topic].event(event.originator_id, event.state.decode())
        return LedgerMapper(REGISTRY).to_stored_event(
            Recorded(event.originator_id, event.originator_version + 1, T0, uuid4(), ours)
        )

    def _said(self, event: StoredEvent) -> dict[str, Any]:
        assert isinstance(event.state, bytes)
        topic = self._suites[event.topic]
        state = self._words[topic].state(REGISTRY.decode(event.topic, event.state))
        return {"topic": topic, "state": state.encode()}

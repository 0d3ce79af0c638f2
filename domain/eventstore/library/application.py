"""The library's application on our tables: its factory, its mapper, its repository."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application, Repository
from eventsourcing.persistence import InterfaceError, Mapper, OperationalError
from eventsourcing.utils import Environment

from domain.archive.extended import ARCHIVE_ID, Archive
from domain.errors import NotFound
from domain.event import Aggregate
from domain.eventstore.aggregates import evolve, past_gap
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.library.factory import LedgerFactory
from domain.eventstore.library.mapper import LedgerMapper
from domain.postgres.connection import unavailable


class LedgerApplication(Application[UUID]):
    """Replay through the library's repository; the notification log comes with it.

    conninfo: libpq connection string of the app role.
    """

    name = "ledger"

    def __init__(self, conninfo: str) -> None:
        super().__init__({LedgerFactory.CONNINFO: conninfo})

    def replay(
        self, aggregate_id: UUID, *, version: int | None = None, until: datetime | None = None
    ) -> Aggregate:
        """Fold a stream from its first event. Raises NotFound and StoreUnavailable.

        version, until: the last event that counts, by its number in the stream and by its instant.
        Synchronous, and as slow as the stream is long: for verification, not for requests. Uses
        that are in the archive alone are not counted.
        """
        projected = partial(_project, until=until, archived_before=self._archived_before)
        try:
            aggregate: Aggregate = self.repository.get(
                aggregate_id, version=version, projector_func=projected
            )
        except AggregateNotFoundError:
            raise NotFound("no such aggregate") from None
        except (InterfaceError, OperationalError) as error:
            raise unavailable(error.__cause__ or error) from error
        return aggregate

    def _archived_before(self) -> datetime | None:
        """The instant up to which events may be in the archive alone; None for none."""
        try:
            archive = self.repository.get(ARCHIVE_ID, projector_func=_all)
        except AggregateNotFoundError:
            return None
        assert isinstance(archive, Archive)
        return archive.before

    def construct_factory(self, env: Environment) -> LedgerFactory:  # type: ignore[override]
        """The library's hook: our tables."""
        return LedgerFactory(env)

    def construct_mapper(self) -> Mapper[UUID]:
        """The library's hook: our registry."""
        return LedgerMapper(REGISTRY)

    def construct_repository(self) -> Repository[UUID]:
        """The library's hook: no cache, whatever the environment says.

        The cache knows an aggregate by its id alone: it would answer `until` with what it has.
        """
        return Repository(self.events)


def _project(
    state: Any,
    events: Any,
    *,
    until: datetime | None,
    archived_before: Callable[[], datetime | None],
) -> Any:
    at, reaches = None, None
    for recorded in events:
        if until is not None and recorded.at > until:
            break
        version = recorded.originator_version - 1
        if state is not None and version > state.version:
            reaches = reaches or archived_before()
            if reaches is not None and at is not None and at < reaches:
                state = past_gap(state, version)
        state, at = evolve(state, recorded), recorded.at
    return state


def _all(state: Any, events: Any) -> Any:
    for recorded in events:
        state = evolve(state, recorded)
    return state

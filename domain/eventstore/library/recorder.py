"""The library's application recorder on our tables:
replay, the notification log, and a correct insert.

What differs from the library's own, each for a measured reason:

- an advisory transaction lock instead of LOCK TABLE, so VACUUM and index builds never wait and the
  app role needs no UPDATE or DELETE on the ledger;
- no NOTIFY: PostgreSQL takes a cluster-wide lock for it, and no reader of ours relies on it;
- no blanket retry: a lock time-out or a full disk is reported once, at once;
- state, head and secrets are written with the events, in the same transaction.

The library's compliance suite runs on it (`tests/domain/eventstore/library/test_compliance.py`);
what differs by intention is in the README beside this file.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Final
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    IntegrityError,
    NotSupportedError,
    OperationalError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Cursor
from psycopg.errors import Diagnostic
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable

from domain.event import Aggregate, Recorded
from domain.eventstore import aggregates, append
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.ledger_clock import skew_of
from domain.eventstore.library.mapper import LedgerEvent, LedgerMapper, LedgerNotification
from domain.eventstore.library.subscription import PollingSubscription
from domain.postgres.kept_connection import IN_DOUBT, leaves_in_doubt

_LOCK_TIMEOUT: Final = SQL("SET LOCAL lock_timeout = {}")
_COLUMNS: Final = SQL(
    "notification_id, originator_id, originator_version, topic, at, command_id, state"
)


class LedgerRecorder(PostgresApplicationRecorder):
    """Reads and appends `ledger.events`.

    LOCK_TIMEOUT: how long an append waits for its place in the order; whole milliseconds.
    """

    LOCK_TIMEOUT: ClassVar = timedelta(milliseconds=800)

    def __init__(self, datastore: PostgresDatastore) -> None:
        super().__init__(datastore, events_table_name="events")
        self._mapper = LedgerMapper(REGISTRY)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Append; returns the notification ids in order.

        kwargs: all None; the position of a reader, which the library can write with events, would
        be lost. Raises NotSupportedError for one, IntegrityError where a version is not the next of
        its stream or ledger time would go back, ClockSkewed where an instant is away from the
        database's clock, UnreadableEvent for what the registry does not hold, and OperationalError
        where the events are stored but perhaps not on the standby.
        """
        given = [name for name, value in kwargs.items() if value is not None]
        if given:
            raise NotSupportedError(f"an append stores events alone, without {', '.join(given)}")
        if not stored_events:
            return []
        recorded = [self._mapper.to_domain_event(event) for event in stored_events]
        warnings: list[str | None] = []
        with self.datastore.get_connection() as connection:
            heed = partial(_heed, warnings)
            connection.add_notice_handler(heed)
            try:
                with connection.transaction():
                    cursor = connection.cursor()
                    cursor.execute(
                        _LOCK_TIMEOUT.format(self.LOCK_TIMEOUT // timedelta(milliseconds=1))
                    )
                    cursor.execute(append.LOCK)
                    ids = self._append(cursor, recorded)
            finally:
                connection.remove_notice_handler(heed)
        if warnings:
            raise OperationalError(IN_DOUBT)
        return ids

    def _append(self, cursor: Cursor[DictRow], recorded: Sequence[Recorded]) -> Sequence[int]:
        for at in (recorded[0].at, recorded[-1].at):
            self._require_believed(cursor, at)
        instants = [row["at"] for row in cursor.execute(append.LAST_INSTANT)]
        instants += [each.at for each in recorded]
        if any(one > next_ for one, next_ in pairwise(instants)):
            raise IntegrityError("ledger time does not go back")
        cursor.execute(append.LOAD, [list({event.originator_id for event in recorded})])
        states: dict[UUID, Aggregate] = {
            row.pop("originator_id"): aggregates.decode_state(**row) for row in cursor.fetchall()
        }
        moved: list[aggregates.MovedSecret] = []
        ended: list[aggregates.EndedSecret] = []
        for event in recorded:
            state = states.get(event.originator_id)
            if event.originator_version != (0 if state is None else state.version) + 1:
                raise IntegrityError(
                    f"version {event.originator_version} is not the next of its stream"
                )
            states[event.originator_id] = aggregates.fold_rows(
                state, event, moved=moved, ended=ended
            )
        cursor.execute(append.MOVE_SECRETS, append.moves(moved))
        cursor.execute(append.STORE, append.columns(REGISTRY, recorded, states, ended))
        return [row["notification_id"] for row in cursor.fetchall()]

    def _require_believed(self, cursor: Cursor[DictRow], at: datetime) -> None:
        try:
            cursor.execute(append.LEDGER_TIME, [at])
        except psycopg.Error as error:
            raise skew_of(error) or error from None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[LedgerEvent]:
        """One stream, in order of version."""
        conditions: list[Composable] = [SQL("originator_id = %s")]
        parameters: list[Any] = [originator_id]
        for bound, condition in (
            (gt, "originator_version > %s"),
            (lte, "originator_version <= %s"),
        ):
            if bound is not None:
                conditions.append(SQL(condition))
                parameters.append(bound)
        rows = self._select(
            conditions, parameters, order="originator_version", desc=desc, limit=limit
        )
        for row in rows:
            del row["notification_id"]
        return [LedgerEvent(**row) for row in rows]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[LedgerNotification]:
        """The ledger in commit order."""
        conditions: list[Composable] = [SQL("true")]
        parameters: list[Any] = []
        if start is not None:
            conditions.append(
                SQL("notification_id >= %s" if inclusive_of_start else "notification_id > %s")
            )
            parameters.append(start)
        if stop is not None:
            conditions.append(SQL("notification_id <= %s"))
            parameters.append(stop)
        if topics:
            conditions.append(SQL("topic = ANY(%s)"))
            parameters.append(list(topics))
        rows = self._select(
            conditions, parameters, order="notification_id", desc=False, limit=limit
        )
        return [LedgerNotification(id=row.pop("notification_id"), **row) for row in rows]

    def _select(
        self,
        conditions: Sequence[Composable],
        parameters: Sequence[Any],
        *,
        order: str,
        desc: bool,
        limit: int | None,
    ) -> list[DictRow]:
        statement = SQL(
            "SELECT {columns} FROM ledger.events WHERE {where} ORDER BY {order} {direction} "
            "LIMIT %s"
        )
        with self.datastore.get_connection() as connection:
            return connection.execute(
                statement.format(
                    columns=_COLUMNS,
                    where=SQL(" AND ").join(conditions),
                    order=SQL(order),
                    direction=SQL("DESC" if desc else "ASC"),
                ),
                [*parameters, limit],
            ).fetchall()

    def max_notification_id(self) -> int | None:
        """The ledger's head, None when it is empty."""
        with self.datastore.get_connection() as connection:
            row = connection.execute(
                "SELECT max(notification_id) AS head FROM ledger.events"
            ).fetchone()
        assert row is not None
        head: int | None = row["head"]
        return head

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> PollingSubscription:
        """What is after a position, and what is to come: without NOTIFY."""
        return PollingSubscription(self, gt, topics)


def _heed(warnings: list[str | None], notice: Diagnostic) -> None:
    if leaves_in_doubt(notice):
        warnings.append(notice.sqlstate)

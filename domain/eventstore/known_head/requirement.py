"""Check that a ledger has the event that this host has known, with each connection and at rest.

A restore breaks every connection, or is made beneath them: so each new one asks, and every second
one that there is. No request pays for it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.errors import EventsLost, HeadFileUnusable, LedgerError, Unavailable
from domain.eventstore.known_head.head_file import HeadFile
from domain.losses.declared import KnownEvent
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements

LOST: Final = "SL003"
"""The SQLSTATE that `ledger.require_known` raises."""
EVERY_S: Final = 1.0
"""For how long a restore beneath a running service may go unnoticed."""
NOT_KEPT_AFTER: Final = timedelta(minutes=1)
"""How old an event may be that the file does not know yet."""
REMEDY: Final = (
    "if another server has it, stop this one; if none has, restore a newer one, or stop the "
    "service and run scim-ledger recover "
    "(docs/how-to/back-up-and-restore.md)"
)

_SQL: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")

logger = structlog.get_logger()


def parameters(known: KnownEvent | None) -> Sequence[object]:
    """Of the statements that compare; nothing is compared where nothing is known."""
    if known is None:
        return [None] * 4
    return [known.position, known.originator_id, known.originator_version, known.command_id]


def loss_of(error: BaseException) -> EventsLost | None:
    """What the database said, where it lacks the event; None for every other error."""
    if not isinstance(error, psycopg.Error) or error.sqlstate != LOST:
        return None
    return EventsLost(f"{error.diag.message_primary}; {REMEDY}")


def require_known(connection: Connection, known: KnownEvent | None) -> None:
    """Raises EventsLost where the ledger lacks the event."""
    try:
        connection.execute(_SQL["require"], parameters(known))
    except psycopg.Error as error:
        raise loss_of(error) or error from None


class KnownHeadRequirement:
    """For the connections of a process: the ledger has the event that the head file names.

    One line of the log tells when it does not for the first time, until it does again.

    not_kept: why the file cannot be used or is not kept up, as far as `watch` has seen; empty where
    all is well. Connections that there are go on; a new one, or the next start, may be refused.
    """

    def __init__(self, head_file: HeadFile) -> None:
        self.not_kept = ""
        self._head_file = head_file
        self._is_refused = False

    def statement(self) -> bytes:
        """The statement `require` without parameters. Raises HeadFileUnusable."""
        told = [
            "NULL" if part is None else f"'{part}'" for part in parameters(self._head_file.read())
        ]
        return f"SELECT ledger.require_known({', '.join(told)})".encode()

    def is_met(self) -> None:
        """The ledger has it, or its loss was declared."""
        if self._is_refused:
            self._is_refused = False
            logger.warning("ledger.accepted_again")

    def refusal(self, error: BaseException) -> LedgerError | None:
        """What the database said, where it lacks the event; None for other errors."""
        loss = loss_of(error)
        if loss is not None and not self._is_refused:
            self._is_refused = True
            logger.error("ledger.events_lost", reason=str(loss))
        return loss

    async def watch(self, reads: ReadPool) -> None:
        """Ask every `EVERY_S`, on a connection that there is; where the ledger lacks the event,
        every connection of the process is left, and each new one is refused.
        """
        judges_age_at = monotonic() + NOT_KEPT_AFTER.total_seconds()  # the keeper begins, too
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look(reads, judges_age=monotonic() > judges_age_at)
                self.not_kept = ""
            except HeadFileUnusable as error:
                self.not_kept = str(error)
            except psycopg.Error as error:
                if self.refusal(error) is not None:
                    reads.primary.leave()
            except Unavailable:
                continue  # whoever asks for a connection is told why

    async def _look(self, reads: ReadPool, *, judges_age: bool) -> None:
        """Raises HeadFileUnusable, also where the file is not kept up; psycopg's, Unavailable."""
        known = self._head_file.read()
        await reads.fetch(_SQL["require"], parameters(known))
        self._head_file.require_place()
        position = 0 if known is None else known.position
        late = _SQL["is_late"]
        if judges_age and await reads.fetch(late, [NOT_KEPT_AFTER, position]) == [(True,)]:
            raise HeadFileUnusable(
                f"the head file {self._head_file.path} is not kept up, it knows of event "
                f"{position} at most: head_file.not_kept in the log says why"
            )


def required_by(head_file: Path | None) -> Sequence[KnownHeadRequirement]:
    """What a head file asks of each connection; nothing where none is set."""
    return () if head_file is None else (KnownHeadRequirement(HeadFile(head_file)),)


@asynccontextmanager
async def watched(required: Sequence[KnownHeadRequirement], reads: ReadPool) -> AsyncIterator[None]:
    """The ledger is watched for as long as the block runs. required: as of `required_by`."""
    loop = asyncio.get_running_loop()
    watching = [loop.create_task(each.watch(reads)) for each in required]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

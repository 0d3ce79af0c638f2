"""A connection that is kept from one transaction to the next, and no longer than it can be used."""

import asyncio
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from domain.errors import StoreUnavailable
from domain.postgres.cancellable_connection import Cancellable, cut_after
from domain.postgres.connection import IDLED_S, takes_writes
from domain.postgres.primary import Primary
from domain.postgres.session import SERVING

SOUNDED_WITHIN_S: Final = 0.15
"""What a connection that idled may take to answer. A third of a use's time: in the rest of it a
fresh one is made, and the use recorded.
"""
IN_DOUBT: Final = "the database warned in a commit: it may not be on the standby"
_SQLSTATES: Final = {"01000", "57P01"}
_OF_OTHER_THINGS: Final = {"GetNewTransactionId", "GetNewMultiXactId", "exec_stmt_raise"}
"""Where PostgreSQL warns that transaction ids run out, of every transaction that takes one, and
where somebody's trigger warns. By the function in its source: the texts are translated."""


def leaves_in_doubt(notice: psycopg.errors.Diagnostic) -> bool:
    """Whether the commit that this was said in may be on this server and on no other.

    Said by SyncRepWaitForLSN, with these SQLSTATEs and no other. Whoever else says something with
    them, and is not known to speak of other things, is heeded, too.
    """
    return (
        notice.severity_nonlocalized == "WARNING"
        and notice.sqlstate in _SQLSTATES
        and notice.source_function not in _OF_OTHER_THINGS
    )


class KeptConnection:
    """One connection for appends, kept while it works, replaced when it does not."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._generation = primary.generation
        self._connection: Cancellable | None = None
        self._is_in_doubt = False
        self._lent_at = 0.0

    async def get(self) -> Cancellable:
        """The connection, alive as far as its socket tells; one that idled has just answered.

        Raises StoreUnavailable.
        """
        connection = self._connection
        asked_at = asyncio.get_running_loop().time()
        idled_s, self._lent_at = asked_at - self._lent_at, asked_at
        if (
            connection is None
            or self._generation != self._primary.generation
            or not connection.is_alive()
            or (idled_s >= IDLED_S and not await _answers(connection))
        ):
            await self.drop()
            connection = await self._primary.connect(SERVING)
            await self._keep(connection)
        self._is_in_doubt = False
        return connection

    async def open(self) -> None:
        """Make the connection where there is none, or a dead one, before anybody asks for it.

        While another task may `get` it, or use it. Raises StoreUnavailable.
        """
        before = self._connection
        if before is not None and (_is_in_use(before) or before.is_alive()):
            return
        made = await self._primary.connect(SERVING)
        if self._connection is before:
            await self._keep(made)
        else:  # another task was faster
            await made.close()

    def confirm(self) -> None:
        """Raise StoreUnavailable where what the server said since `get` is not to be believed.

        A wait for a synchronous standby that is cancelled ends in a warning and a success: the
        commit is on this server and on no other. And a server that takes no writes any more decides
        on what was.
        """
        if self._is_in_doubt:
            raise StoreUnavailable(IN_DOUBT)
        if self._connection is not None and not takes_writes(self._connection):
            raise self._primary.lost()

    async def drop(self, error: BaseException | None = None) -> None:
        """Hang up; the next `get` connects anew. error: the reason, if it failed.

        A server that takes no writes is left by every connection of the process.
        """
        connection, self._connection = self._connection, None
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._primary.lost()
        if connection is not None:
            await connection.close()

    async def _keep(self, connection: Cancellable) -> None:
        """Instead of the one that is there."""
        before, self._connection = self._connection, connection
        self._generation = self._primary.generation
        connection.add_notice_handler(self._noticed)
        if before is not None:
            await before.close()

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        self._is_in_doubt |= leaves_in_doubt(notice)


def _is_in_use(connection: Cancellable) -> bool:
    """Whether something is under way there: then what its socket has to say is an answer."""
    return not connection.closed and (
        connection.pgconn.transaction_status != TransactionStatus.IDLE
    )


async def _answers(connection: Cancellable) -> bool:
    """Whether what holds the connection still has the database behind it.

    Asked before an append and not by it: one that is not answered may have been committed.
    """
    try:
        with cut_after(connection, SOUNDED_WITHIN_S):
            await connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True

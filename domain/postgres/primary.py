"""The server that takes writes, as the connections of one process know it."""

from collections.abc import Sequence

import structlog

from domain.errors import StoreReadOnly
from domain.postgres.cancellable_connection import Cancellable
from domain.postgres.connection import Requirement, connect
from domain.postgres.session import Session
from domain.postgres.trouble.unusable_reasons import TAKES_NO_WRITES

logger = structlog.get_logger()


class Primary:
    """The server that one process appends to and reads from, as its connections know it.

    Once one of them learns that its server takes no writes any more, all that were made before are
    closed: a read from the server of yesterday finds neither the tokens of today nor what was
    revoked.

    requires: what the database must be, such as a ledger that the process has the pepper of.
    generation: of the connections that may be used. One line of the log tells when writes stop and
    when they are back.
    """

    def __init__(self, conninfo: str, *, requires: Sequence[Requirement] = ()) -> None:
        self.generation = 0
        self._conninfo = conninfo
        self._requires = requires
        self._takes_writes = True

    async def connect(self, session: Session) -> Cancellable:
        """A connection of this generation.

        Raises StoreReadOnly, StoreUnavailable, and what is required of the database.
        """
        try:
            connection = await connect(self._conninfo, session=session, requires=self._requires)
        except StoreReadOnly:
            self.lost()
            raise
        if not self._takes_writes:
            self._takes_writes = True
            logger.warning("store.takes_writes_again")
        return connection

    def lost(self) -> StoreReadOnly:
        """The server of this generation takes no writes; what to raise."""
        self.generation += 1
        if self._takes_writes:
            self._takes_writes = False
            logger.error("store.takes_no_writes", reason=TAKES_NO_WRITES)
        return StoreReadOnly(TAKES_NO_WRITES)

    def leave(self) -> None:
        """Use no connection of this generation any more: its database is not what is required."""
        self.generation += 1

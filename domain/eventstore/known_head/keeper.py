"""Keep the head file up with the ledger, on a thread beside the views' runner."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import psycopg
import structlog
from psycopg import Connection

from domain.errors import EventsLost, HeadFileUnusable, LedgerError
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.requirement import loss_of, parameters
from domain.losses.declared import KnownEvent
from domain.postgres.connection import open_connection
from domain.postgres.session import SERVING
from domain.postgres.sql_file import statements
from domain.postgres.trouble.unusable_reasons import reason

EVERY_S: Final = 1.0
"""How old the file may be while the service runs. What was appended after the last turn before the
host broke may be lost unnoticed."""
STOP_TIMEOUT_S: Final = 5.0

_SQL: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")

logger = structlog.get_logger()


def keep(connection: Connection, head_file: HeadFile) -> None:
    """One turn: write down the newest event, if the ledger still has what the file names.

    One statement compares and reads, so that no restore comes between the two. Raises EventsLost,
    HeadFileUnusable, OSError, and psycopg's errors.
    """
    known = head_file.read()
    try:
        row = connection.execute(_SQL["newest"], parameters(known)).fetchone()
    except psycopg.Error as error:
        raise loss_of(error) or error from None
    if row is None:
        return
    newest = KnownEvent(*row[:4])
    if known != newest:
        head_file.write(newest)
    if known is None:
        logger.warning("head_file.made", path=str(head_file.path), position=newest.position)


class HeadKeeper:
    """A context manager: keeps the file for as long as its block runs, and once more at its end.

    conninfo: of the app role. path: of the file; None for none.
    """

    def __init__(self, conninfo: str, path: Path | None) -> None:
        self._conninfo = conninfo
        self._head_file = None if path is None else HeadFile(path)
        self._connection: Connection | None = None
        self._failing = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="head file", daemon=True)

    def goes_on(self) -> bool:
        """Whether the thread lives, where there is a file to keep: each of its steps is bounded."""
        return self._head_file is None or self._thread.is_alive()

    def __enter__(self) -> Self:
        if self._head_file is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._head_file is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        assert self._head_file is not None
        is_stopping = False
        while not is_stopping:
            is_stopping = self._stopping.wait(EVERY_S)
            self._turn(self._head_file)
        self._hang_up()

    def _turn(self, head_file: HeadFile) -> None:
        try:
            if self._connection is None:
                self._connection = open_connection(self._conninfo, session=SERVING, timeout_s=2)
            keep(self._connection, head_file)
        except EventsLost:
            return  # the workers, who let nobody in, tell it
        except (LedgerError, psycopg.Error) as error:
            said = str(error) if isinstance(error, HeadFileUnusable) else reason(error)
            self._hang_up()
        except OSError as error:
            said = f"{head_file.path}: {error.strerror}"
        else:
            said = ""
        if said != self._failing:
            self._failing = said
            if said:
                logger.error("head_file.not_kept", reason=said, retry_s=EVERY_S)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

"""Check that a process has the pepper keys of the ledger that it opens.

Digests cannot be told apart without the secrets that they were made of: with another key every good
token is unknown, and nothing looks wrong. So the ledger keeps a fingerprint of each generation's
key.

A ledger from before it did trusts the keys of the first start that comes: there is nothing to
compare them with but their number, which the stored digests tell.
"""

from typing import Final

import psycopg
import structlog
from psycopg import Connection

from domain.errors import PepperMismatch
from domain.postgres.sql_file import statements
from domain.secret import Pepper

MISMATCH: Final = "SL002"
"""The SQLSTATE that `ledger.require_pepper` raises."""

logger = structlog.get_logger()

_SQL: Final = statements("domain.eventstore.peppers", "sql/peppers.sql")


def has_pepper(connection: Connection) -> bool:
    """Whether there is a key that this ledger needs:
    it has secrets that were not given up for lost.
    """
    return connection.execute(_SQL["is_needed"]).fetchone() == (True,)


def require_pepper(connection: Connection, pepper: Pepper) -> int:
    """How many generations the ledger knows.

    Raises PepperMismatch where they are not these keys'.
    """
    try:
        connection.execute(_SQL["require"], [pepper.fingerprints])
    except psycopg.Error as error:
        raise mismatch_of(error) or error from None
    row = connection.execute(_SQL["count_generations"]).fetchone()
    assert row is not None
    known: int = row[0]
    return known


def require_recordable(connection: Connection, pepper: Pepper) -> int:
    """How many generations the ledger knows; a start may write down those that it does not know.

    Raises PepperMismatch where the pepper is not the ledger's, or its new keys are none.
    """
    known = require_pepper(connection, pepper)
    if known == pepper.generation:
        return known
    _require_none_missing(pepper, known)
    if known == 0:
        _require_enough(connection, pepper)
    else:
        _require_new_ones(connection, pepper, known)
    return known


def record_pepper(connection: Connection, pepper: Pepper) -> int:
    """Require the pepper, and write down the generations that the ledger does not know;
    returns how many.

    Raises PepperMismatch, also where another process has just written down another key.
    """
    if require_recordable(connection, pepper) == pepper.generation:
        return 0
    added = connection.execute(_SQL["record"], [pepper.fingerprints]).rowcount
    require_pepper(connection, pepper)
    return added


def compare_pepper(connection: Connection, pepper: Pepper) -> None:
    """Require the pepper of what is no start: its generations are those that the ledger knows.

    One that knows none yet has them written down. Raises PepperMismatch, also for a new generation:
    a secret under a key that no running service knows would be unknown to all of them.
    """
    known = require_pepper(connection, pepper)
    if known == 0:
        record_pepper(connection, pepper)
    elif known < pepper.generation:
        raise PepperMismatch(
            f"the pepper has a key of generation {known + 1}, which this ledger does not know yet: "
            "start the service with it first"
        )


def _require_none_missing(pepper: Pepper, known: int) -> None:
    """A generation that the ledger does not know cannot have been retired."""
    for generation, fingerprint in enumerate(pepper.fingerprints[known:], start=known + 1):
        if fingerprint is None:
            raise PepperMismatch(
                f"the pepper is not the one of this ledger: its key of generation {generation} is "
                "missing; only a key that scim-ledger keys retire has retired may be left out"
            )


def _require_new_ones(connection: Connection, pepper: Pepper, known: int) -> None:
    """A rotation to a key that the ledger has, or had, would be none, and nobody would notice.

    A ledger that knows no key yet may have been run with such a list, and goes on.
    """
    rows = connection.execute(_SQL["fingerprints"], [known])  # none that another start has added
    had = {bytes(fingerprint): generation for fingerprint, generation in rows}
    for generation, fingerprint in enumerate(pepper.fingerprints[known:], start=known + 1):
        if fingerprint in had:
            raise PepperMismatch(
                f"the pepper's key of generation {generation} is that of generation "
                f"{had[fingerprint]} again: put a new one in its place"
            )
        if fingerprint is not None:
            had[fingerprint] = generation


def _require_enough(connection: Connection, pepper: Pepper) -> None:
    """Of a ledger without fingerprints: each of its digests is of a generation that is there."""
    if not has_pepper(connection):  # nor a ledger whose secrets were given up
        return
    with connection.transaction():
        connection.execute(_SQL["take_time"])
        row = connection.execute(_SQL["newest_generation_of_secrets"]).fetchone()
    assert row is not None
    if row[0] > pepper.generation:
        raise PepperMismatch(
            f"the pepper is not the one of this ledger: its key of generation {row[0]} is missing; "
            "give every key that its secrets were made with, in order, the oldest first"
        )


class PepperRequirement:
    """For the connections of a process: the ledger was written with its pepper.

    Keys that were added since the process began are no reason to refuse it. One line of the log
    tells when the keys are refused for the first time, until they are accepted again.
    """

    def __init__(self, pepper: Pepper) -> None:
        self._pepper = pepper
        self._has_begun = False
        self._is_refused = False

    def statement(self) -> bytes:
        """The statement `require` without parameters."""
        # Not as '\\x…': whether that is an escape is one of the things that the session has just
        # stated.
        keys = ", ".join(
            "NULL" if one is None else f"decode('{one.hex()}', 'hex')"
            for one in self._pepper.fingerprints
        )
        known = self._pepper.generation if self._has_begun else "NULL"
        newer = (
            "SELECT fingerprint FROM ledger.pepper_generations "
            f"WHERE generation > {known} ORDER BY generation"
        )
        return f"SELECT ledger.require_pepper(ARRAY[{keys}] || ARRAY({newer}))".encode()

    def is_met(self) -> None:
        """The process has begun."""
        self._has_begun = True
        self._is_refused = False

    def refusal(self, error: BaseException) -> PepperMismatch | None:
        """What the database said, where the keys are not the ledger's; None for other errors."""
        mismatch = mismatch_of(error)
        if mismatch is not None and not self._is_refused:
            self._is_refused = True
            logger.error("pepper.refused", reason=str(mismatch))
        return mismatch


def mismatch_of(error: BaseException) -> PepperMismatch | None:
    """What the database said, where the keys are not the ledger's; None for every other error."""
    if not isinstance(error, psycopg.Error) or error.sqlstate != MISMATCH:
        return None
    return PepperMismatch(error.diag.message_primary)

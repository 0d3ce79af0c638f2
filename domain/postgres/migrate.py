"""Forward-only SQL migrations, applied once each, in order, under a lock, by the owner role."""

import re
import time
from collections.abc import Collection
from importlib.resources import files
from typing import Final

import psycopg
import structlog

from domain.errors import LedgerError
from domain.postgres.connection import open_connection
from domain.postgres.session import MIGRATING
from domain.postgres.sql_file import statements, with_names

_LOCK: Final = 7239075815
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
_CONTRACTS: Final = re.compile(r"^-- contract: ", re.MULTILINE)
_TOLD_SINCE: Final = 14
"""The migration that tells which of those after it only add."""

_NUMBERED: Final = (("events", "notification_id"), ("projection_rebuilds", "id"), ("repairs", "id"))
"""Tables and columns that a sequence gives numbers to."""

_HELD_S: Final = 0.3
"""Who still holds a table after as long as a migration waits for it."""

_SQL: Final = statements("domain.postgres", "sql/migrate.sql")
WAIT_BRIEFLY: Final = _SQL["wait_briefly"]

logger = structlog.get_logger()


class MigrationError(LedgerError):
    """The schema cannot be brought to what this release needs."""


class LaterRelease(MigrationError):
    """The schema has no way down; the text says which releases can use it.

    found, remedy: its two parts.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self.found = f"the database has migrations of a later release: {sorted(numbers)}"
        self.remedy = "run the release that made them, or a later one"
        super().__init__(f"{self.found}: {self.remedy}")


def available() -> dict[int, str]:
    """The migrations of this release: number to SQL."""
    return {
        int(match[1]): path.read_text("utf-8")
        for path in files("domain.eventstore").joinpath("migrations").iterdir()
        if (match := _NAME.fullmatch(path.name))
    }


def applied(connection: psycopg.Connection) -> set[int]:
    """The migrations that a database has, by number; empty where there is no ledger."""
    row = connection.execute("SELECT to_regclass('ledger.migrations')").fetchone()
    if row is None or row[0] is None:
        return set()
    return {number for (number,) in connection.execute("SELECT number FROM ledger.migrations")}


def pending(connection: psycopg.Connection) -> list[int]:
    """What is to be applied.

    Raises LaterRelease when the database is of one, unless that has only added: then this release
    can be started again.
    """
    done = applied(connection)
    later = done - available().keys()
    if later:
        later -= {number for (number,) in connection.execute(_SQL["expansions"])}
    if later:
        raise LaterRelease(later)
    return sorted(available().keys() - done)


def migrate(owner_conninfo: str, *, app_role: str | None) -> list[int]:
    """Apply what is pending, in one transaction; returns the numbers applied.

    owner_conninfo: a role that may create schemas. app_role: the existing role that the service
    runs as, which gets the least it needs; None when both are the same role.
    Raises WrongEncoding, MigrationError. Safe to run from several machines at once: the second
    waits and finds nothing to do.
    """
    with open_connection(owner_conninfo, session=MIGRATING, is_autocommit=False) as connection:
        try:
            _be_alone(connection)
            numbers = pending(connection)
            owner = _owner(connection)
            if numbers:
                connection.execute(with_names(_SQL["act_as"], role=owner))
            for number in numbers:
                _apply(connection, number, owner_conninfo)
            connection.execute(_SQL["be_ourselves"])
            if connection.execute("SELECT to_regnamespace('views')").fetchone() == (None,):
                connection.execute(with_names(_SQL["views_schema"], role=owner))
            connection.execute(_SQL["functions_are_nobodys"])
            _set_right(connection)
            if app_role is not None:
                _grant(connection, app_role)
        except psycopg.errors.InsufficientPrivilege as error:
            connection.rollback()
            raise MigrationError(
                f"this role may not migrate; {takes_owner(connection)}; nothing was changed"
            ) from error
    return numbers


def takes_owner(connection: psycopg.Connection) -> str:
    """The remedy where a right is lacking that the owner of the ledger has; it names that role."""
    owners = connection.execute(_SQL["owners"]).fetchall()
    others = [role for role, is_ours, _ in owners if not is_ours]
    if not others:
        return (
            "it takes a role that may create schemas: set SCIM_LEDGER_OWNER_DATABASE_URL to a URL "
            "of one; if that names this role, GRANT CREATE ON DATABASE to it"
        )
    if len(owners) > 1:
        return (
            f"the ledger belongs to several roles, parts of it to {others[0]}: give all of it to "
            "one (ALTER … OWNER TO), or set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of a superuser"
        )
    return (
        f"it takes the owner: set SCIM_LEDGER_OWNER_DATABASE_URL to a URL of the role {others[0]}"
    )


def _set_right(connection: psycopg.Connection) -> None:
    """No sequence is behind the rows that it numbers."""
    for table, column in _NUMBERED:
        sequence = ("ledger", f"{table}_{column}_seq")
        name = ".".join(sequence)
        if connection.execute(_SQL["may_follow"], [name]).fetchone() == (True,):
            connection.execute(
                with_names(
                    _SQL["sequence_follows"],
                    sequence=sequence, table=("ledger", table), column=column,
                ),
                [name],
            )  # fmt: skip


def _owner(connection: psycopg.Connection) -> str:
    """The role that what is made is to belong to: the ledger's owner, also where another migrates
    that may act as it, such as a superuser; this role where there is no such one.
    """
    owners = connection.execute(_SQL["owners"]).fetchall()
    match owners:
        case [(str(role), _, True)]:
            return role
        case _:
            row = connection.execute("SELECT current_user").fetchone()
            assert row is not None
            return str(row[0])


def _grant(connection: psycopg.Connection, app_role: str) -> None:
    try:
        connection.execute(with_names(_SQL["app_role_rights"], role=app_role))
    except psycopg.errors.UndefinedObject as error:
        raise MigrationError(
            "the server has no role as DATABASE_URL names it: correct the user of DATABASE_URL, or "
            "create it (CREATE ROLE … LOGIN); nothing was changed"
        ) from error


def _be_alone(connection: psycopg.Connection) -> None:
    if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]).fetchone() == (True,):
        return
    logger.info("another migration is at work; this one waits for it")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _apply(connection: psycopg.Connection, number: int, owner_conninfo: str) -> None:
    text = available()[number]
    connection.execute(WAIT_BRIEFLY)
    try:
        connection.execute(text)
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"migration {number} needs a table that another transaction holds, such as a dump"
            f"{_holders(owner_conninfo, connection.info.backend_pid)}: "
            "nothing was changed; run it again when that is over"
        ) from error
    connection.execute(_SQL["keep_numbers"])
    connection.execute("INSERT INTO ledger.migrations (number) VALUES (%s)", [number])
    if number > _TOLD_SINCE and not _CONTRACTS.search(text):
        connection.execute(_SQL["is_expansion"], [number])


def _holders(owner_conninfo: str, own_pid: int) -> str:
    """Who else holds tables of the ledger, asked beside the transaction that has failed.

    Asked twice: since when another role's transaction runs, such as a superuser's dump, is not for
    everybody to see.
    """
    with open_connection(owner_conninfo, session=MIGRATING) as beside:
        before = {row[:2] for row in beside.execute(_SQL["holders"], [own_pid])}
        time.sleep(_HELD_S)
        rows = beside.execute(_SQL["holders"], [own_pid]).fetchall()
    told = [
        f"process {pid} of {user}{f', {name}' if name else ''}"
        f"{'' if seconds is None else f', for {seconds} s'}, {relations}"
        for pid, transaction, user, name, seconds, relations in rows
        if (pid, transaction) in before
    ]
    return f" ({'; '.join(told)})" if told else ""

"""Tell errors of the store, after which a view tries again, from a view's own, which stop it."""

from typing import Final

import psycopg

_CLASSES_OF_THE_STORE: Final = frozenset({"08", "25", "26", "28", "3D", "40", "53", "57", "58"})
"""SQLSTATE classes (PostgreSQL, appendix A): connection, state of the transaction (read-only),
names of statements, credentials, database, serialization and deadlock, resources (a full disk),
intervention (a shutdown, a cancelled statement) and the operating system."""

_OF_THE_STORE: Final = frozenset({"55P03", "55006"})
"""A lock that was not to be had in time, an object in use."""

_NO_FILE: Final = "58P01"
"""The file of a table is gone: waiting brings it back for nobody."""

_CORRUPTED: Final = frozenset({_NO_FILE, "XX001", "XX002"})

_STRUCTURE: Final = "42"
"""The class of what is missing, of another type, or not permitted:
messages name objects, never values.
"""


def is_of_the_store(error: Exception) -> bool:
    """Whether another try may succeed, as nothing is wrong with this view.

    Anything else is the view's own: a wrong fold, a value that a column refuses, a table that is
    gone, damaged or not ours any more. That stops this view and no other.
    """
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # psycopg's own: the connection is lost, or a value cannot be sent
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if error.sqlstate == _NO_FILE:
        return False
    return error.sqlstate[:2] in _CLASSES_OF_THE_STORE or error.sqlstate in _OF_THE_STORE


def is_structural(error: BaseException) -> bool:
    """Whether a table is not what it was made as: missing, of other columns, or forbidden."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_STRUCTURE)


def is_damage(error: BaseException) -> bool:
    """Whether a table cannot be read as it is: `is_structural`, or its pages are corrupted."""
    return is_structural(error) or (
        isinstance(error, psycopg.Error) and error.sqlstate in _CORRUPTED
    )


def told(error: BaseException) -> str:
    """The class of an error, and its text where that cannot quote a value."""
    name = type(error).__name__
    if is_structural(error):
        assert isinstance(error, psycopg.Error)
        return f"{name}: {error.diag.message_primary}"
    return name

"""Why a database cannot be used: one sentence with the remedy, for a terminal, a log or a finding.

PostgreSQL's and libpq's own texts are never passed on: they quote roles, databases and parts of
connection strings. libpq gives no SQLSTATE for a connection that was refused, so its text is told
apart by its words.
"""

import re
from typing import Final

import psycopg

from domain.errors import LedgerError, SharedSession

TAKES_NO_WRITES: Final = (
    "the database takes no writes, it is a standby or default_transaction_read_only is on: "
    "name the primary in DATABASE_URL, or all hosts of the cluster"
)
_NO_ANSWER: Final = (
    "the database did not answer in time: check the server, the network, and a pooler before it, "
    "whose connections may all be taken"
)
_LOST: Final = (
    "the database has nothing of this at work any more, and its answer did not arrive: check what "
    "lies before it, such as a proxy, a pooler or a firewall"
)
_SILENT: Final = (
    "the host of DATABASE_URL does not answer: check the server, the network and its firewalls"
)
_CLOSED: Final = (
    "the database closed the connection, or the network lost it: the log of the database says which"
)
"""libpq has one text for both."""

_UNKNOWN: Final = "the database does not accept connections: its log says why"
_LACKS_A_RIGHT: Final = (
    "the role lacks a right: run scim-ledger migrate as the owner (SCIM_LEDGER_OWNER_DATABASE_URL)"
)

_SAID: Final = {
    "definition of service|service file": (
        "the service of the connection string is not known: check its name, and the service file "
        "(PGSERVICEFILE)"
    ),
    (
        "invalid \\S+ value: |invalid integer value|invalid port number|bad value for|"
        "could not match|weak sslmode"
    ): (
        "an option of the connection string has a value that it cannot have: check DATABASE_URL, "
        "the service file and the PG* variables"
    ),
    "channel binding required|authentication method requirement|requirepeer": (
        "the server does not authenticate as the connection string demands: check require_auth, "
        "channel_binding and requirepeer, and the server's pg_hba.conf"
    ),
    "session is read-only|server is in hot standby mode": TAKES_NO_WRITES,
    "no password supplied|password authentication failed|SASL authentication failed": (
        "the database refuses the user's password: check the user and the password of DATABASE_URL"
    ),
    "is not permitted to log in": (
        "the role may not log in to the database: ALTER ROLE … LOGIN, or name another in "
        "DATABASE_URL"
    ),
    "no pg_hba.conf entry|pg_hba.conf rejects": (
        "the server's pg_hba.conf does not let this user in from here, or not without TLS: "
        "add a line to it, or set sslmode=require"
    ),
    "role .+ does not exist|no such user": (
        "the database has no such role: check the user of DATABASE_URL, or create it"
    ),
    "database .+ does not exist|no such database": (
        "the server has no such database: check the name in DATABASE_URL, or create it"
    ),
    "permission denied for database": "the role may not connect: GRANT CONNECT ON DATABASE to it",
    (
        "too many (clients|connections)|remaining connection slots|no more connections allowed|"
        "query_wait_timeout"
    ): (
        "the database has no connection left: raise max_connections or the role's limit, "
        "or run fewer workers"
    ),
    "is starting up|is shutting down|not yet accepting connections|in recovery mode": (
        "the database is starting or stopping: try again"
    ),
    "not currently accepting connections": (
        "the database is closed to connections: ALTER DATABASE … ALLOW_CONNECTIONS true"
    ),
    "server does not support SSL": (
        "the server offers no TLS, which sslmode demands: switch it on there, "
        "or choose another sslmode"
    ),
    "root certificate file|certificate verify failed|server certificate for": (
        "the server's certificate cannot be verified: renew it if it has expired, set sslrootcert "
        "to the authority that signed it, and the host of DATABASE_URL to the name that it is made "
        "out to"
    ),
    "certificate|private key|alert unknown ca": (
        "the client certificate is not accepted: check sslcert, whether it has expired and is made "
        "out to the user of DATABASE_URL, and sslkey, which only its owner may read"
    ),
    # One that was made, and lost: that is no matter of TLS.
    "SSL SYSCALL error: connection timed out": _SILENT,
    "consuming input failed: SSL|SSL connection has been closed": _CLOSED,
    "SSL|TLS": "TLS with the server failed: check sslmode and the server's TLS settings",
    (
        "could not translate host name|name or service not known|name resolution|"
        "failed to resolve host|nodename nor servname|no address associated"
    ): "the host of DATABASE_URL is unknown: check its name, and the name server",
    "connection refused|no such file or directory": (
        "nothing listens at the host and port of DATABASE_URL: start the server, or correct them"
    ),
    "failed: permission denied": (
        "this operating system user may not open the server's socket: check its directory"
    ),
    # So says our own side.
    "no answer came in time|couldn't get a connection": _NO_ANSWER,
    "works on nothing, and no answer came": _LOST,
    "timeout expired|timed out|no route to host|network is unreachable|host is down": _SILENT,
    "permission denied to set": (
        "the role may not set an option of the connection string: remove it, or grant it to the "
        "role"
    ),
    "unsupported startup parameter|unrecognized configuration parameter": (
        "the database, or a pooler before it, does not take a parameter of the "
        "connection string: remove it"
    ),
    (
        "server closed the connection|connection reset|broken pipe|terminating connection|"
        "connection is (closed|lost)"
    ): _CLOSED,
    "FATAL|authentication": "the database refuses the connection: its log says why",
}
"""What the text holds, and what it means, in the order in which they are looked for."""

_QUOTED: Final = re.compile(r"\"[^\"]*\"|\b(?:host|hostaddr): '[^'\n]*'")
"""What was given: a host may be called after TLS, a role after a certificate."""

_PATTERNS: Final = [(re.compile(said, re.IGNORECASE), means) for said, means in _SAID.items()]


GIVEN_UP: Final = (
    psycopg.errors.TransactionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""The server ended a session that was silent or slow: to psycopg, these are InternalErrors."""


def is_lost(error: BaseException) -> bool:
    """Whether it is the end of a connection: what was under way may be done, or not."""
    return isinstance(error, GIVEN_UP) or (
        isinstance(error, psycopg.OperationalError)
        and (error.sqlstate is None or error.sqlstate.startswith("57P"))
    )


def reason(error: BaseException) -> str:
    """What is wrong, from an error of psycopg's; one of ours has its reason already."""
    if isinstance(error, LedgerError):
        return str(error)
    if isinstance(
        error, TimeoutError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable
    ):
        return _NO_ANSWER
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return TAKES_NO_WRITES
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return _LACKS_A_RIGHT
    if isinstance(error, psycopg.errors.InvalidSqlStatementName):
        return str(SharedSession())
    text = _QUOTED.sub('""', str(error))
    return next((means for said, means in _PATTERNS if said.search(text)), _UNKNOWN)


def loss_in(text: str) -> str | None:
    """What is wrong where a program of PostgreSQL's own tells of a connection that is lost."""
    said = reason(psycopg.OperationalError(text))
    return said if said in {_SILENT, _CLOSED} else None

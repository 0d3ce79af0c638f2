"""Check the PostgreSQL server: durability, long transactions, and what it logs."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from psycopg import Connection

from api.doctor.finding import Finding, fail, ok, parts, warn
from api.doctor.network import round_trip, tls
from api.settings import PREFIX, Settings
from domain.errors import WrongEncoding
from domain.postgres.connection import require_utf8
from domain.postgres.session import UNSAFE, stated_names
from domain.postgres.sql_file import statements

OLDEST: Final = 15
NEWEST: Final = 18
CONNECTIONS_PER_WORKER: Final = 6
"""Two for appends and four for reads."""
CONNECTIONS_BESIDES: Final = 8
"""Of each `serve`: one follows, one rebuilds, two tell what is due, one keeps the head file;
and three of a command, such as the doctor.
"""
IDS_MAX: Final = 1 << 31
IDS_WARNED_OF: Final = 40_000_000
IDS_LEFT: Final = 3_000_000
"""PostgreSQL's own: so many before the end it warns in each transaction, and takes no writes."""
HELD_MAX: Final = timedelta(minutes=10)

_SQL: Final = statements("api.doctor", "server.sql")


def examine(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Every finding about the server."""
    for look in LOOKS:
        yield look(connection)
    yield durability(connection, is_allowed=settings.allow_unsafe_database)
    yield room_for_connections(connection, workers=settings.workers)


def version(connection: Connection, *, oldest: int = OLDEST, newest: int = NEWEST) -> Finding:
    """Of PostgreSQL."""
    found = connection.info.server_version // 10_000
    if found < oldest:
        return fail("database", f"PostgreSQL {found}", f"use PostgreSQL {oldest} to {newest}")
    if found > newest:
        return warn(
            "database", f"PostgreSQL {found}, which was not tried", f"use {oldest} to {newest}"
        )
    return ok("database", f"PostgreSQL {found}")


def encoding(connection: Connection) -> Finding:
    """Whether it holds every text."""
    try:
        require_utf8(connection.pgconn)
    except WrongEncoding as wrong:
        return fail("encoding", *parts(str(wrong)))
    return ok("encoding", "UTF8")


def collation(connection: Connection) -> Finding:
    """Whether indexes are in the order in which the server compares texts today."""
    row = connection.execute(_SQL["collation"]).fetchone()
    assert row is not None
    locale, known, actual, indexes = row
    if known == actual or not indexes:
        return ok("collation", f"texts are in the order that they had, of the locale {locale}")
    return warn(
        "collation",
        f"the order of texts was of version {known} and is of {actual}: an upgrade of the "
        f"operating system. What is there may not be found by {', '.join(indexes)}",
        "as an administrator REINDEX INDEX CONCURRENTLY each of them, then ALTER DATABASE … "
        "REFRESH COLLATION VERSION",
    )


def writes(connection: Connection) -> Finding:
    """Whether it takes any."""
    row = connection.execute(_SQL["takes_writes"]).fetchone()
    assert row is not None
    is_standby, is_read_only = row
    if is_standby:
        remedy = "name the primary in DATABASE_URL, or all hosts of the cluster"
        return fail("writes", "the server is a standby", remedy)
    if is_read_only:
        return fail(
            "writes",
            "default_transaction_read_only is on for this role, database or server",
            "find out who switched it on, a full disk perhaps, and reset it",
        )
    return ok("writes", "it takes writes")


def role_settings(connection: Connection) -> Finding:
    """Settings of the role or database that our sessions replace."""
    names = [
        name for (name,) in connection.execute(_SQL["overridden_settings"], [list(stated_names())])
    ]
    if names:
        return warn(
            "role settings",
            f"of the role or the database, and replaced by each session of the service: "
            f"{', '.join(names)}",
            "ALTER ROLE … RESET, ALTER DATABASE … RESET: psql and backups then see what the "
            "service sees",
        )
    return ok("role settings", "none that matters to the service")


def durability(connection: Connection, *, is_allowed: bool) -> Finding:
    """Whether what is confirmed survives a crash."""
    unsafe = ", ".join(setting for (setting,) in connection.execute(UNSAFE))
    if not unsafe:
        return ok("durability", "confirmed events survive a crash")
    if is_allowed:
        return warn(
            "durability",
            f"confirmed events may be lost in a crash: {unsafe}",
            f"switch them on, and {PREFIX}ALLOW_UNSAFE_DATABASE off",
        )
    return fail(
        "durability",
        f"confirmed events may be lost in a crash: {unsafe}; it does not start",
        "switch them on",
    )


def standbys(connection: Connection) -> Finding:
    """Whether a commit has to wait for a standby that is not there."""
    row = connection.execute(_SQL["standbys"]).fetchone()
    assert row is not None
    demanded, count, synchronous, is_hidden = row
    if not demanded:
        return ok("synchronous standby", "none is demanded")
    if synchronous:
        return ok("synchronous standby", f"{synchronous} confirm(s) each commit")
    if count and is_hidden:
        return warn(
            "synchronous standby",
            f"demanded, and {count} standby(s) are connected; this role may not see which",
            "GRANT pg_monitor to the role that runs doctor",
        )
    return fail(
        "synchronous standby",
        "demanded, and none is connected: each commit waits, and is answered 503",
        "bring the standby back, or take it out of synchronous_standby_names",
    )


def checksums(connection: Connection) -> Finding:
    """Whether a disk that returns something else is noticed."""
    if connection.execute("SHOW data_checksums").fetchone() == ("on",):
        return ok("checksums", "a damaged page is noticed")
    return warn(
        "checksums",
        "off: a page that the disk returns damaged is not noticed",
        "stop the server and run pg_checksums --enable",
    )


def room_for_connections(connection: Connection, *, workers: int) -> Finding:
    """Whether all that this service opens is allowed."""
    row = connection.execute(_SQL["room"]).fetchone()
    assert row is not None
    allowed, others, of_role, of_database = row
    limits = [allowed - others, *(limit for limit in (of_role, of_database) if limit >= 0)]
    needed, left = workers * CONNECTIONS_PER_WORKER + CONNECTIONS_BESIDES, max(0, min(limits))
    found = f"{left} can be had, {needed} are used by {workers} worker(s)"
    if left < needed:
        return warn(
            "connections", found, "raise max_connections or the limit of the role or database"
        )
    return ok("connections", found)


def vacuum(connection: Connection) -> Finding:
    """Whether dead rows are cleared away."""
    off = [
        name
        for name in ("autovacuum", "track_counts")
        if connection.execute("SELECT current_setting(%s)", [name]).fetchone() == ("off",)
    ]
    off += [table for (table,) in connection.execute(_SQL["never_vacuumed"])]
    if off:
        return warn(
            "autovacuum",
            f"off: {', '.join(off)}; a token that is used all day grows slower by the hour",
            "switch autovacuum and track_counts on, ALTER TABLE … RESET (autovacuum_enabled)",
        )
    return ok("autovacuum", "on")


def transaction_ids(connection: Connection) -> Finding:
    """How near PostgreSQL is to taking no writes because old transaction ids were not cleared."""
    rows = connection.execute(_SQL["oldest_ids"]).fetchall()
    found = ", ".join(f"{used:,} {what} since the oldest of {name}" for what, name, used, _ in rows)
    if all(used < early for _, _, used, early in rows):
        return ok("transaction ids", found)
    remedy = (
        "end what keeps them (old transactions, prepared ones, replication slots), then as a "
        "superuser VACUUM the database that is named"
    )
    if any(used >= IDS_MAX - IDS_WARNED_OF for _, _, used, _ in rows):
        found += f"; nothing can be written at {IDS_MAX - IDS_LEFT:,}"
        return fail("transaction ids", found, remedy)
    return warn("transaction ids", found, remedy)


def snapshots(connection: Connection, *, max_: timedelta = HELD_MAX) -> Finding:
    """What keeps dead rows and old log files from being cleared away.

    max_: a transaction that is old.
    """
    held = [what for (what,) in connection.execute(_SQL["held_back"], {"max": max_})]
    if held:
        return warn(
            "old snapshots",
            f"dead rows or log files are kept for {'; '.join(held)}",
            "end it: pg_terminate_backend, ROLLBACK PREPARED, pg_drop_replication_slot",
        )
    return ok("old snapshots", "none")


def server_log(connection: Connection) -> Finding:
    """Whether digests, names and addresses are written into the server's log."""
    logged = [setting for (setting,) in connection.execute(_SQL["logged"])]
    hides = connection.execute("SHOW log_parameter_max_length").fetchone() == ("0",)
    if logged and not hides:
        return warn(
            "server log",
            f"it may hold digests, names and addresses, as parameters of statements: "
            f"{', '.join(logged)}",
            "as a superuser: ALTER ROLE … "
            "SET log_parameter_max_length = 0, for the app role and the owner",
        )
    return ok("server log", "no parameters of statements go into it")


LOOKS: Final[Sequence[Callable[[Connection], Finding]]] = (
    *(
        version,
        encoding,
        collation,
        writes,
        role_settings,
        standbys,
        tls,
        round_trip,
        checksums,
        vacuum,
        transaction_ids,
        snapshots,
        server_log,
    ),
)
"""Those that need nothing but a connection."""

"""`scim-ledger doctor`: what is wrong with the set-up, and how to mend it."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, LiteralString

import msgspec
import psycopg

from api.deployment import UNSAFE, embedded
from api.settings import Settings, SettingsError, pepper_keys
from domain.eventstore.migrate import MigrationError, pending
from domain.secret import Pepper
from projections import positions

_MAX_SKEW_S: Final = 2.0
_MAX_LAG: Final = 10_000
RIGHTS: Final[LiteralString] = """
    SELECT has_table_privilege('ledger.events', 'UPDATE') OR has_table_privilege('ledger.events', 'DELETE')
"""


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. mend: what to do, empty when it is good."""

    what: str
    is_good: bool
    found: str
    mend: str = ""


def examine(settings: Callable[[], Settings]) -> list[Finding]:
    """Look at everything that can be looked at; stop where the rest depends on it."""
    return list(_examine(settings))


def _examine(load: Callable[[], Settings]) -> Iterator[Finding]:
    yield Finding(
        "python", sys.version_info >= (3, 11), sys.version.split()[0], "Python 3.11 or later is needed"
    )
    try:
        settings = load()
    except SettingsError as error:
        yield Finding("settings", False, str(error), "correct or remove the variable")
        return
    yield Finding("settings", True, "every variable is known")
    if settings.database_url is None:
        server = embedded(settings)
        if not server.is_running:
            yield Finding(
                "embedded server",
                server.has_cluster,
                f"not running; {'its data:' if server.has_cluster else 'no ledger in'} {server.base_dir}",
                "name the data directory with --data-dir, or make a ledger with scim-ledger serve",
            )
            return
        conninfo = server.conninfo(user="scim_ledger", dbname="scim_ledger")
        yield Finding("embedded server", True, f"running; its data: {server.base_dir}")
    else:
        conninfo = settings.database_url
        yield _pepper(settings)
    try:
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            yield from _database(connection)
    except psycopg.OperationalError:
        yield Finding("database", False, "does not accept connections", "check DATABASE_URL and the server")


def _pepper(settings: Settings) -> Finding:
    try:
        keys = Pepper(pepper_keys(settings))
    except (SettingsError, ValueError) as error:
        return Finding("pepper", False, str(error), "set SCIM_LEDGER_PEPPER_FILE to a file with a random key")
    return Finding("pepper", True, f"{keys.generation} key(s)")


def _database(connection: psycopg.Connection) -> Iterator[Finding]:
    version = connection.info.server_version // 10_000
    yield Finding("database", version >= 15, f"PostgreSQL {version}", "PostgreSQL 15 or later is needed")  # noqa: PLR2004
    try:
        missing = pending(connection)
    except MigrationError as error:
        yield Finding("migrations", False, str(error), "run the release that made them, or a later one")
        return
    yield Finding("migrations", not missing, f"pending: {missing or 'none'}", "run scim-ledger migrate")
    if missing:
        return
    unsafe = ", ".join(setting for (setting,) in connection.execute(UNSAFE))
    yield Finding("durability", not unsafe, unsafe or "confirmed events survive a crash", "switch them on")
    may_change = connection.execute(RIGHTS).fetchone() == (True,)
    yield Finding(
        "rights",
        not may_change,
        "the app role can change events" if may_change else "the app role can only read and add events",
        "run the service as a role of its own, and migrate as the owner (SCIM_LEDGER_OWNER_DATABASE_URL)",
    )
    yield _clock(connection)
    yield from _views(connection)


def _clock(connection: psycopg.Connection) -> Finding:
    row = connection.execute("SELECT clock_timestamp(), max(at) FROM ledger.events").fetchone()
    assert row is not None
    here = datetime.now(UTC)
    skew_s = abs((row[0] - here).total_seconds())
    ahead_s = 0.0 if row[1] is None else (row[1] - here).total_seconds()
    return Finding(
        "clock",
        max(skew_s, ahead_s) <= _MAX_SKEW_S,
        f"{skew_s:.1f} s from the database's, ledger {max(ahead_s, 0):.1f} s ahead",
        "synchronise the clocks (NTP)",
    )


def _views(connection: psycopg.Connection) -> Iterator[Finding]:
    for at in positions.all_positions(connection):
        if at.stopped_at is not None:
            yield Finding(
                f"view {at.name}",
                False,
                f"stopped at event {at.stopped_at}: {at.error}",
                "see docs: a stopped view",
            )
        else:
            is_close = at.lag <= _MAX_LAG
            yield Finding(f"view {at.name}", is_close, f"{at.lag} events behind", "is a service running?")

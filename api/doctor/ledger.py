"""Check the ledger in its database: schema, rights, pepper keys, ledger time, views."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from psycopg import Connection

from api.deployment import head_file
from api.doctor import locks, network
from api.doctor.finding import Finding, fail, ok, warn
from api.settings import PREFIX, Settings, SettingsError, check_head_file, pepper_keys
from domain.errors import EventsLost, HeadFileUnusable, PepperMismatch
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.requirement import NOT_KEPT_AFTER, require_known
from domain.eventstore.ledger_clock import AHEAD_MAX, BEHIND_MAX
from domain.eventstore.peppers.fingerprints import require_recordable
from domain.postgres.migrate import LaterRelease, pending
from domain.postgres.sql_file import statements
from domain.secret import Pepper
from projections.described import rfc3339
from projections.follow import positions
from projections.registry import PROJECTIONS
from projections.warnings.queries import LATE_AFTER, VIEWS, due_since

MAX_LAG: Final = 10_000
MIGRATE: Final = "run scim-ledger migrate as the owner (SCIM_LEDGER_OWNER_DATABASE_URL)"

_SQL: Final = statements("api.doctor", "ledger.sql")
_KNOWN_HEAD: Final = statements("domain.eventstore.known_head", "sql/known_head.sql")
NEEDED: Final = {
    "ledger.events": "SELECT INSERT",
    "ledger.stream_heads": "SELECT INSERT UPDATE",
    "ledger.aggregates": "SELECT INSERT UPDATE",
    "ledger.api_tokens": "SELECT INSERT UPDATE",
    "ledger.secrets": "SELECT INSERT UPDATE",
    "ledger.commands": "SELECT INSERT UPDATE DELETE",
    "ledger.pepper_generations": "SELECT INSERT",
    "ledger.projection_positions": "SELECT INSERT UPDATE DELETE",
    "ledger.projection_rebuilds": "SELECT INSERT UPDATE",
    "ledger.repairs": "SELECT",
}


def examine(connection: Connection, conninfo: str, settings: Settings) -> Iterator[Finding]:
    """Every finding about the ledger, up to the first that keeps it from looking further."""
    migrations_ = migrations(connection)
    yield migrations_
    if migrations_.remedy is not None:
        return
    yield role(connection)
    rights_ = rights(connection)
    yield rights_
    if rights_.remedy is not None:
        return
    for locked in locks.appends(connection):
        yield locked
        if locked.remedy is not None:
            return
    yield locks.positions(connection)
    yield from keys(connection, settings)
    yield known_head(connection, settings)
    yield network.allowed_networks(conninfo, settings)
    yield clock(connection)
    yield ledger_time(connection)
    yield repairs(connection)
    yield from views(connection)
    yield warnings(connection)


def migrations(connection: Connection) -> Finding:
    """Whether the schema is that of this release."""
    if connection.execute(_SQL["may_look"]).fetchone() == (False,):
        return fail("migrations", "the role may not look into the schema of the ledger", MIGRATE)
    try:
        missing = pending(connection)
    except LaterRelease as error:
        return fail("migrations", error.found, error.remedy)
    if missing:
        return fail("migrations", f"pending: {', '.join(map(str, missing))}", MIGRATE)
    return ok("migrations", "none is pending")


def role(connection: Connection) -> Finding:
    """Whether the service could change what it may only add to."""
    row = connection.execute(_SQL["rights_on_events"]).fetchone()
    assert row is not None
    is_superuser, is_owner, changes = row
    what = "is a superuser" if is_superuser else "owns the ledger" if is_owner else ""
    what = what or (f"may {', '.join(changes)} events" if changes else "")
    if what:
        return warn(
            "role",
            f"the role of the service {what}, so nothing but its code "
            f"keeps it from changing the past",
            "run the service as a role of its own, and migrate as the owner "
            "(SCIM_LEDGER_OWNER_DATABASE_URL)",
        )
    return ok("role", "it can read and add events, and change none")


def rights(connection: Connection) -> Finding:
    """Whether it may do all that it has to."""
    rows = connection.execute(_SQL["lacking_rights"], [list(NEEDED), list(NEEDED.values())])
    lacking = ", ".join(what for (what,) in rows)
    if lacking:
        return fail("rights", f"the role of the service lacks {lacking}", MIGRATE)
    row = connection.execute(_SQL["owners_of_views"]).fetchone()
    assert row is not None
    owners, own = row
    if owners is not None:
        return fail(
            "rights",
            f"the views belong to the role {owners}, and DATABASE_URL names {own}: "
            f"every read is answered 503",
            f"name {owners} in DATABASE_URL, as whom the service ran before "
            f"({PREFIX}OWNER_DATABASE_URL is for the owner)",
        )
    return ok("rights", "it has what it needs")


def keys(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Whether this is the pepper of the ledger."""
    try:
        pepper = Pepper(pepper_keys(settings))
    except (SettingsError, ValueError):  # which is a finding of its own
        return
    try:
        known = require_recordable(connection, pepper)
    except PepperMismatch as mismatch:
        found, remedy = re.split("; |: (?=put)", str(mismatch), maxsplit=1)
        yield fail("pepper generations", found, remedy)
        return
    if known == 0:
        yield warn(
            "pepper generations",
            "the ledger does not know its pepper yet; it will take that of the first start",
            "start the service, or run scim-ledger migrate, with the right one",
        )
    elif known < pepper.generation:
        yield warn(
            "pepper generations",
            f"{pepper.generation - known} key(s) are new to the ledger",
            "restart every service that shares it, one right after the other",
        )
    else:
        row = connection.execute(_SQL["retired_keys"]).fetchone()
        assert row is not None
        found = f"all {known} are those of the ledger"
        found += f", {row[0]} of them retired" if row[0] else ""
        more = "; scim-ledger keys tells what each still has" if known > 1 else ""
        yield ok("pepper generations", found + more)


def known_head(connection: Connection, settings: Settings) -> Finding:
    """Whether the ledger is what this host has known, and whether anybody would notice."""
    what, path = "head file", head_file(settings)
    if path is None:
        return warn(
            what,
            "none is set: nobody would notice a restore of an older state, in which what was "
            "revoked since is good again",
            "set SCIM_LEDGER_HEAD_FILE to a file on a disk of this host "
            "(docs/how-to/back-up-and-restore.md)",
        )
    try:
        check_head_file(settings)
        known = HeadFile(path).read()
        require_known(connection, known)
    except SettingsError as error:
        found, _, remedy = str(error).rpartition(": ")
        return fail(what, found, remedy)
    except (EventsLost, HeadFileUnusable) as error:
        found, _, remedy = str(error).partition("; ")
        return fail(what, found, remedy)
    if known is None:
        return warn(what, f"there is none yet at {path}", "start the service: it writes it")
    row = connection.execute(_KNOWN_HEAD["is_late"], [NOT_KEPT_AFTER, known.position]).fetchone()
    if row == (True,):
        return warn(
            what,
            f"event {known.position} is the last that it knows, and later ones are not new",
            "start the service on this host; if it runs, head_file.not_kept in its log says why",
        )
    return ok(what, f"event {known.position} is the last that this host has known")


def clock(connection: Connection, *, here: Callable[[], datetime] = positions.now) -> Finding:
    """This machine's and the database's."""
    row = connection.execute(_SQL["clock_and_last_instant"]).fetchone()
    assert row is not None
    ahead = here() - row[0]
    skew_s = ahead.total_seconds()
    found = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the database's"
    remedy = "synchronise both clocks (NTP)"
    if not -BEHIND_MAX <= ahead <= AHEAD_MAX:
        return fail("clock", f"{found}: every request is answered 503", remedy)
    if ahead < -AHEAD_MAX:
        late = f"{BEHIND_MAX.total_seconds():.0f} s"
        return warn("clock", f"{found}: from {late} on every request is answered 503", remedy)
    return ok("clock", found)


def ledger_time(connection: Connection, *, here: Callable[[], datetime] = positions.now) -> Finding:
    """Whether it has jumped ahead of the clocks."""
    row = connection.execute(_SQL["clock_and_last_instant"]).fetchone()
    assert row is not None
    now, at = row
    if at is None or at - now <= AHEAD_MAX:
        return ok("ledger time", "not ahead of the database's clock")
    ahead = f"{(at - now).total_seconds():.0f} s ahead of the database's clock"
    if abs(here() - now) > AHEAD_MAX:
        return fail(
            "ledger time",
            f"{ahead}, which may be the one that is wrong",
            "synchronise both clocks (NTP) first, then run doctor again",
        )
    return fail(
        "ledger time",
        f"{ahead}: tokens expire too early",
        "stop the service and run scim-ledger repair ledger-time (docs/how-to/clocks.md)",
    )


def repairs(connection: Connection) -> Finding:
    """What an owner has set right; nothing is wrong with that,
    and nobody should have to search for it.
    """
    made = [f"{kind} on {day}" for kind, day in connection.execute(_SQL["repairs"])]
    return ok("repairs", f"ledger.repairs tells of {', '.join(made)}" if made else "none was made")


def views(connection: Connection, *, max_lag: int = MAX_LAG) -> Iterator[Finding]:
    """Each view that this release reads, and what older ones have left."""
    live = positions.live_of(connection, PROJECTIONS)
    for projection in PROJECTIONS:
        what, at = f"view {projection.name}", live.get(projection.name)
        if at is None:
            yield warn(
                what,
                "not built yet in the shape of this release",
                "start the service: it builds it",
            )
        elif positions.is_missing(connection, projection.table(at.version)):
            remedy = f"scim-ledger projections rebuild {at.name}"
            yield fail(what, f"its table {projection.table(at.version)} is missing", remedy)
        elif at.stopped_at is not None:
            remedy = f"docs/how-to/a-stopped-view.md; then scim-ledger projections retry {at.name}"
            yield fail(what, f"stopped at event {at.stopped_at}: {at.error}", remedy)
        elif at.lag > max_lag:
            yield warn(
                what, f"{at.lag} events behind", "start the service: its projection process follows"
            )
        else:
            yield ok(what, f"{at.lag} events behind")
    known = [projection.name for projection in PROJECTIONS], [each.shape for each in PROJECTIONS]
    old = ", ".join(table for (table,) in connection.execute(_SQL["old_versions"], known))
    if old:
        yield warn(
            "old views",
            f"tables that this release does not read: {old}",
            "once no process of the release before runs: scim-ledger projections drop-old",
        )
    else:
        yield ok("old views", "none")


def warnings(connection: Connection, *, max_lag: int = MAX_LAG) -> Finding:
    """Whether somebody tells what is due of tokens: the views know what is, and what was told."""
    what = "warnings"
    known = positions.live_of(connection, VIEWS)
    for view in VIEWS:
        at = known.get(view.name)
        if at is None:
            found = f"what is due is not known: the view {view.name} is not built yet"
            return warn(what, found, "start the service: it builds the view")
        if positions.is_missing(connection, view.table(at.version)):
            found = f"what is due is not known: the table of the view {view.name} is missing"
            return fail(what, found, f"scim-ledger projections rebuild {view.name}")
        if at.stopped_at is not None:
            found = f"none is told of what came later: the view {view.name} has stopped"
            return fail(what, found, "docs/how-to/a-stopped-view.md")
        if at.lag > max_lag:
            found = f"none is told of what came later: the view {view.name} is far behind"
            return warn(what, found, "start the service: its projection process follows")
    row = connection.execute(_SQL["clock_and_last_instant"]).fetchone()
    assert row is not None
    now = max(filter(None, row))
    since = due_since(connection, {name: at.version for name, at in known.items()}, now)
    if since is None or now - since <= LATE_AFTER:
        return ok(what, "none is late")
    return fail(
        what,
        f"due since {rfc3339(since)} and not told: nobody is warned of what happens to tokens",
        "start the service, whose projection process tells them; if it runs, they wait for the end "
        "of another release's processes, or warnings.failed in its log says why it cannot",
    )

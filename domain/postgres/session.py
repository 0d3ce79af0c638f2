"""The settings that every session states before it is used, whatever the role, the database, the
server's configuration or a PG* variable of the process says.

By SET after connecting, in one round trip; not by libpq's `options`, which PgBouncer refuses. What
only an operator can mean stays as it is: a read-only server (`ReadPool`, `KeptConnection` leave
it), a stronger synchronous_commit, memory and cost settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.postgres.sql_file import statements

ANSWER_SLACK_S: Final = 1.0
"""What an answer may take beyond the time after which the server ends the statement."""

UNSENT_MS: Final = 3000
PATIENT_UNSENT_MS: Final = 60_000
"""What may take as long as it likes waits for disks, on both sides: neither may take the other's
for a network that has gone. Linux counts the time in which a living peer takes nothing, too.
"""

_PROGRAM_LET_IN_S: Final = 10
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_TRANSACTION_TIMEOUT_SINCE: Final = 170000

_STATED: Final = {
    # Each statement after the append lock must see what was committed before it.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # Every name of ours is qualified; nobody's functions or tables may stand in front of
    # PostgreSQL's own.
    "search_path": "pg_catalog, pg_temp",
    # How values are written and read as text.
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    # How statements are read, and what they find.
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",
    "default_table_access_method": "heap",
    # To compile a statement takes longer than any of ours runs: a second of a list's time, at once.
    "jit": "off",
    # What our statements are planned by; a profile may switch the others off.
    "plan_cache_mode": "auto",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_nestloop": "on",
    "enable_sort": "on",
    # A refused statement must not end the session; a warning in a commit must reach us; what we
    # sent must not reach the server's log.
    "exit_on_error": "off",
    "client_min_messages": "warning",
    "log_parameter_max_length_on_error": "0",
    # We keep idle connections. A client's machine that has gone is noticed within eight seconds,
    # and what it had locked is free.
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
}

_SQL: Final = statements("domain.postgres", "sql/session.sql")
UNSAFE: Final = _SQL["unsafe"]
WAITS_FOR_STANDBY: Final = _SQL["waits_for_standby"]
OWN_SESSION: Final = _SQL["own_session"]
AT_WORK: Final = _SQL["at_work"]
HAS_PROGRAM: Final = _SQL["has_program"]


@dataclass(frozen=True, slots=True)
class Session:
    """A profile: how long the server lets this session wait and work, and what else it needs.

    lock_ms, statement_ms, idle_ms (in a transaction), transaction_ms: 0 for no limit. is_confirmed:
    a commit waits for the disk, and for a standby that is demanded. more: further settings.
    """

    lock_ms: int = 0
    statement_ms: int = 0
    idle_ms: int = 0
    transaction_ms: int = 0
    is_confirmed: bool = True
    more: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def answer_within_s(self) -> float | None:
        """Within what time the server answers, seconds; None where it may take as long as it likes.

        What takes longer has been lost on the way, by something between us that still holds the
        connection.
        """
        return self.statement_ms / 1000 + ANSWER_SLACK_S if self.statement_ms else None

    @property
    def unsent_ms(self) -> int:
        """How long the server may take nothing of what is sent to it."""
        return UNSENT_MS if self.statement_ms else PATIENT_UNSENT_MS

    def statements(self, server_version: int) -> bytes:
        """All that it states, for one round trip.

        server_version: as libpq has it, such as 170002.
        """
        limits = {
            "lock_timeout": str(self.lock_ms),
            "idle_in_transaction_session_timeout": str(self.idle_ms),
            "statement_timeout": str(self.statement_ms),
        }
        unlimited = {"statement_timeout": "0"}
        if server_version >= _TRANSACTION_TIMEOUT_SINCE:
            limits["transaction_timeout"] = str(self.transaction_ms)
            unlimited["transaction_timeout"] = "0"
        # First of all no limit: a role's of a millisecond would end the statement that replaces it.
        settings = [*unlimited.items(), *_STATED.items(), *self.more.items()]
        if not self.is_confirmed:
            settings.append(("synchronous_commit", "off"))
        lines = [_set(name, value) for name, value in settings]
        if self.is_confirmed:
            lines.append(_SQL["confirm"])
        return ";".join([*lines, *(_set(name, value) for name, value in limits.items())]).encode()


SERVING: Final = Session(
    lock_ms=800,
    statement_ms=1500,
    idle_ms=1500,
    transaction_ms=1500,
    more={"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"},
)
"""The server gives up before our callers do,
so that an abandoned transaction never holds the append lock. All statements go by key; one that is
planned while its table is empty would read all of it and stay so.

A session between two messages of a pipeline is neither in a statement nor idle: only
transaction_timeout (PostgreSQL 17) ends that one, and before 17 the keep-alives do, once its
client's machine is gone.
"""

READING: Final = replace(SERVING, more={**SERVING.more, "enable_bitmapscan": "off"})
"""Every list is read in the order of an index and stops at its limit. The planner, who cannot know
how many rows lie in a range of positions, would rather collect all of them and sort: as slow as the
range is long. One plan serves all parameters; `ReadPool` has it made anew every second, because one
that was made while a table was empty reads all of it a minute later."""

COMMAND: Final = Session()
"""A command of the operator, who waits as long as it takes and can interrupt it."""

FOLLOWING: Final = Session(
    lock_ms=1000,
    statement_ms=30_000,
    idle_ms=15_000,
    transaction_ms=60_000,
    is_confirmed=False,
    more={"enable_seqscan": "off", "idle_session_timeout": "4000"},
)
"""The projections. Whoever locks one view's table holds no other view up. Rows and position are
lost together and applied again: no view waits for the disk. All statements go by key; one that is
prepared while a view is small would be planned as a scan and stay one.

It asks several times a second: a session that is not asked for seconds has lost its client,
whatever stands between them, and must not lead the views any more. Within a transaction it folds
up to 5,000 events, a fraction of a second's work, for which a starved machine may take long: were
it cut off then, it would never get any further.
"""

REBUILDING: Final = Session(
    lock_ms=60_000,
    more={"max_parallel_maintenance_workers": "0", "max_parallel_workers_per_gather": "0"},
)
"""A rebuild: an index takes as long as it takes. One processor of the database at most; the others
are the doors'."""

MIGRATING: Final = Session(more={"check_function_bodies": "on", "plpgsql.extra_errors": "none"})
"""DDL as the owner. How long it waits for those who use the tables is told with each migration. The
functions are checked by what makes them wrong, not by what somebody has asked of his own.
"""


def stated(
    conninfo: str,
    *,
    needs_writes: bool = True,
    application_name: str = "scim-ledger",
    unsent_ms: int = UNSENT_MS,
) -> str:
    """The same connection string with what must be said before the session begins.

    It breaks when the server's machine has been gone for 5 s and `unsent_ms`: one that only waits
    for an answer would wait for two hours. needs_writes: of several hosts it is the one that takes
    writes, and none where none does. unsent_ms: how long the server may take nothing of what is
    sent to it; on Linux a keep-alive, too, whatever their count.
    """
    return make_conninfo(
        conninfo,
        application_name=application_name,
        target_session_attrs="read-write" if needs_writes else "any",
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=1,
        keepalives_count=3,
        tcp_user_timeout=unsent_ms,
    )


def stated_for_program(conninfo: str, program: str, *, is_told_to_server: bool) -> str:
    """The same for a program of PostgreSQL's own, which gives no session of its settings to us, and
    would wait for ever to be let in.

    is_told_to_server: that the server gives the session up, too, when this machine has gone, with
    all that it has locked. By libpq's `options`, which not every pooler takes.
    """
    told = make_conninfo(
        stated(conninfo, application_name=program, unsent_ms=PATIENT_UNSENT_MS),
        connect_timeout=_PROGRAM_LET_IN_S,
    )
    if not is_told_to_server:
        return told
    limits = {name: value for name, value in _STATED.items() if name.startswith("tcp_")}
    limits["tcp_user_timeout"] = str(PATIENT_UNSENT_MS)
    given = conninfo_to_dict(conninfo).get("options") or ""
    ours = " ".join(f"-c {name}={value}" for name, value in limits.items())
    return make_conninfo(told, options=f"{given} {ours}".strip())


def each_host(conninfo: str) -> list[str]:
    """One connection string for each host that it names, in their order."""
    parts = conninfo_to_dict(conninfo)
    lists = {
        name: str(parts[name]).split(",")
        for name in ("host", "hostaddr", "port")
        if parts.get(name)
    }
    count = max((len(values) for values in lists.values()), default=1)
    if any(len(values) not in (1, count) for values in lists.values()):
        return [conninfo]  # libpq says what is wrong with it
    return [
        make_conninfo(
            conninfo, **{name: (values * count)[number] for name, values in lists.items()}
        )
        for number in range(count)
    ]


def _set(name: str, value: str) -> str:
    # search_path is the one list: quoted as a whole it would be one name.
    return f"SET {name} = {value}" if name == "search_path" else f"SET {name} = '{value}'"


def stated_names() -> frozenset[str]:
    """Every setting that a session of ours states, in lower case:
    a role's or a database's has no effect.
    """
    limits = {
        "lock_timeout",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
    }
    return frozenset({*(name.lower() for name in _STATED), *limits, "synchronous_commit"})

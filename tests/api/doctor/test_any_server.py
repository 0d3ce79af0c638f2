"""Whatever locks are held and whatever is set, the doctor tells what it is asked for and no more:
its statements, compared with the rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from threading import Thread
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from api.doctor import locks, server
from domain.eventstore import append
from domain.postgres.session import UNSAFE, stated_names
from tests.conftest import Database, new_database
from tests.service import until

OTHER: Final = "scim_ledger_test_other"


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    with new_database(server) as database:
        with_more_tables(database)
        yield database


@pytest.fixture(scope="module")
def neighbour(server: str) -> Iterator[Database]:
    """Another ledger of the same server, whose tables have the same numbers."""
    with new_database(server) as database:
        with_more_tables(database)
        yield database


def with_more_tables(database: Database) -> None:
    with psycopg.connect(database.owner) as owner:
        owner.execute("CREATE TABLE public.events ()")
        owner.execute("CREATE TABLE views.events ()")


@pytest.fixture(scope="module")
def owner(ledger: Database) -> Iterator[psycopg.Connection[Any]]:
    """A superuser; what is written is rolled back."""
    with psycopg.connect(ledger.owner) as connection:
        yield connection


# Locks

TABLES: Final[tuple[LiteralString, ...]] = (
    "ledger.commands",
    "ledger.events",
    "ledger.secrets",
    "public.events",
)
SHUTS_WRITERS_OUT: Final[Mapping[str, str]] = {
    "ACCESS SHARE": "",
    "ROW SHARE": "",
    "ROW EXCLUSIVE": "",
    "SHARE UPDATE EXCLUSIVE": "",
    "SHARE": "ShareLock",
    "SHARE ROW EXCLUSIVE": "ShareRowExclusiveLock",
    "EXCLUSIVE": "ExclusiveLock",
    "ACCESS EXCLUSIVE": "AccessExclusiveLock",
}
"""Each mode, and what the server calls it where it shuts writers out."""
ADVISORY: Final[Mapping[LiteralString, str]] = {
    append.LOCK: "the append lock",
    "SELECT pg_advisory_xact_lock_shared(7239075814)": "the append lock",
    "SELECT pg_advisory_xact_lock(7239075815)": "",
    "SELECT pg_advisory_xact_lock(1, -1350858778)": "",
    "SELECT pg_advisory_xact_lock(7239075814 - (1::bigint << 32))": "",
}
"""Of one number or of two, and whether it is that of an append."""


class Session(NamedTuple):
    """Somebody who holds locks, each table in one mode, and an advisory one or none."""

    is_neighbour: bool
    application: str
    tables: dict[str, str]
    advisory: LiteralString | None


SESSIONS: Final = st.builds(
    Session,
    st.sampled_from([False, False, True]),
    st.sampled_from(["", "pg_dump"]),
    st.dictionaries(st.sampled_from(TABLES), st.sampled_from([*SHUTS_WRITERS_OUT])),
    st.none() | st.sampled_from([*ADVISORY]),
)


def who(connection: psycopg.Connection[Any]) -> str:
    application = connection.info.parameter_status("application_name")
    said = f"process {connection.info.backend_pid} of {connection.info.user}"
    return said + (f" ({application})" if application else "")


def told_of(session: Session) -> list[str]:
    """What it holds that is in the way: the tables of a mode together, by name."""
    if session.is_neighbour:
        return []
    shut = sorted(
        (SHUTS_WRITERS_OUT[mode], table)
        for table, mode in session.tables.items()
        if SHUTS_WRITERS_OUT[mode] and table.startswith("ledger.")
    )
    held = [
        f"{mode} on {', '.join(table for _, table in tables)}"
        for mode, tables in groupby(shut, key=lambda each: each[0])
    ]
    advisory = "" if session.advisory is None else ADVISORY[session.advisory]
    return [*held, advisory] if advisory else held


@settings(max_examples=50)
@example(session=Session(False, "", {}, append.LOCK), others=[], waiters=2, appends=True)
@example(session=Session(True, "", {}, append.LOCK), others=[], waiters=0, appends=False)
@given(
    session=SESSIONS,
    others=st.lists(SESSIONS, max_size=1),
    waiters=st.integers(0, 2),
    appends=st.booleans(),
)
def test_whose_lock_is_in_the_way_is_told_whoever_holds_what(
    ledger: Database,
    neighbour: Database,
    owner: psycopg.Connection[Any],
    *,
    session: Session,
    others: Sequence[Session],
    waiters: int,
    appends: bool,
) -> None:
    """appends: whether somebody waits for the append lock, who is in nobody's way."""
    with ExitStack() as stack:
        holding: list[str] = []
        for each in (session, *others):
            database = neighbour if each.is_neighbour else ledger
            holder = stack.enter_context(
                psycopg.connect(database.owner, application_name=each.application)
            )
            holder.execute("SET lock_timeout = 1")
            try:
                for table, mode in each.tables.items():
                    holder.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
                if each.advisory is not None:
                    holder.execute(each.advisory.encode())
            except psycopg.errors.LockNotAvailable:
                holder.rollback()
                continue
            holding += [f"{who(holder)} holds {what}" for what in told_of(each)]
        first = stack.enter_context(psycopg.connect(ledger.owner))
        first.execute("LOCK TABLE ledger.migrations IN ROW EXCLUSIVE MODE")
        if appends and any(each.endswith("the append lock") for each in holding):
            stack.enter_context(waiting_for(append.LOCK, ledger, owner))
        waiting = [
            stack.enter_context(
                waiting_for("LOCK TABLE ledger.migrations IN ACCESS EXCLUSIVE MODE", ledger, owner)
            )
            for _ in range(waiters)
        ]
        behind = [first.info.backend_pid, *(each.info.backend_pid for each in waiting)]
        told = [row[0] for row in owner.execute(locks._SQL["in_the_way"], [100])]
        some = [row[0] for row in owner.execute(locks._SQL["in_the_way"], [1])]
        owner.rollback()
        expected = [
            f"{who(each)} waits for AccessExclusiveLock on ledger.migrations, behind process "
            + ", ".join(map(str, behind[: place + 1]))
            for place, each in enumerate(waiting)
        ]
    assert sorted(told[: len(holding)]) == sorted(holding)
    assert told[len(holding) :] == expected
    assert len(some) == min(1, len(told))
    assert {*some} <= {*(holding or told)}


@contextmanager
def waiting_for(
    statement: LiteralString, ledger: Database, looks: psycopg.Connection[Any]
) -> Iterator[psycopg.Connection[Any]]:
    """A session that waits for a lock, until the end."""
    with psycopg.connect(ledger.owner) as connection:

        def wait() -> None:
            with suppress(psycopg.errors.QueryCanceled):
                connection.execute(statement)

        thread = Thread(target=wait)
        thread.start()
        asked = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted AND waitstart IS NOT NULL"
        pid = connection.info.backend_pid
        try:
            until(lambda: bool(looks.execute(asked, [pid]).rowcount), what="the wait")
            yield connection
        finally:
            connection.cancel()
            thread.join()
            connection.rollback()


# Settings

SPELLINGS: Final = {
    **dict.fromkeys(("off", "of", "false", "FALSE", "f", "no", "n", "0"), True),
    **dict.fromkeys(("on", "true", "t", "yes", "y", "1"), False),
}
"""As PostgreSQL takes a boolean, and whether it switches off."""
LOGS: Final = {
    "log_statement": {"none": False, "ddl": False, "mod": True, "all": True},
    "log_min_duration_statement": {"-1": False, "0": True, "250": True},
    "log_min_duration_sample": {"-1": False, "0": True, "250": True},
    "log_transaction_sample_rate": {"0": False, "0.5": True, "1": True},
    "log_duration": {"off": False, "on": False},
}
"""Settings, and whether a value of each gets statements into the log."""
ROLES: Final = ("ALL", "CURRENT_USER", OTHER)
DATABASES: Final = ("", "this", "template1")
NAMES: Final = ("statement_timeout", "DateStyle", "TimeZone", "synchronous_commit", "work_mem")
VALUES: Final = {"DateStyle": "ISO", "TimeZone": "UTC", "synchronous_commit": "on"}


@given(
    spelt=st.dictionaries(
        st.sampled_from(["ledger.events", "ledger.secrets", "views.events", "public.events"]),
        st.sampled_from([*SPELLINGS]),
    ),
    besides=st.booleans(),
)
def test_a_table_that_is_never_vacuumed_is_told_however_that_is_spelt(
    owner: psycopg.Connection[Any], spelt: dict[str, str], *, besides: bool
) -> None:
    for table, word in spelt.items():
        owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = {word})".encode())
        if besides:
            owner.execute(f"ALTER TABLE {table} SET (vacuum_truncate = off)".encode())
    told = [row[0] for row in owner.execute(server._SQL["never_vacuumed"])]
    owner.rollback()
    assert told == sorted(
        table
        for table, word in spelt.items()
        if SPELLINGS[word] and not table.startswith("public.")
    )


@given(
    chosen=st.fixed_dictionaries(
        {name: st.sampled_from([*values]) for name, values in LOGS.items()}
    )
)
def test_what_gets_statements_into_the_log_is_told(
    owner: psycopg.Connection[Any], chosen: dict[str, str]
) -> None:
    for name, value in chosen.items():
        owner.execute("SELECT set_config(%s, %s, true)", [name, value])
    told = [row[0] for row in owner.execute(server._SQL["logged"])]
    owner.rollback()
    assert told == sorted(f"{name}={value}" for name, value in chosen.items() if LOGS[name][value])


@given(
    stated=st.lists(
        st.tuples(*(st.sampled_from(each) for each in (ROLES, DATABASES, NAMES))), max_size=5
    )
)
def test_a_setting_of_this_role_or_database_is_told_if_a_session_replaces_it(
    owner: psycopg.Connection[Any], stated: Sequence[tuple[str, str, str]]
) -> None:
    owner.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(OTHER)))
    for role, database, name in stated:
        where = {
            "": "",
            "this": f'IN DATABASE "{owner.info.dbname}"',
            "template1": "IN DATABASE template1",
        }[database]
        value = VALUES.get(name, "100")
        owner.execute(f"ALTER ROLE {role} {where} SET {name} = '{value}'".encode())
    told = owner.execute(server._SQL["overridden_settings"], [[*stated_names()]]).fetchall()
    owner.rollback()
    assert sorted(name for (name,) in told) == sorted(
        {
            name
            for role, database, name in stated
            if role != OTHER and database != "template1" and name != "work_mem"
        }
    )


@pytest.mark.parametrize("chosen", ["off", "local", "on", "remote_apply"])
def test_what_may_lose_a_confirmed_event_is_told(
    owner: psycopg.Connection[Any], chosen: str
) -> None:
    owner.execute("SELECT set_config('synchronous_commit', %s, true)", [chosen])
    told = [row[0] for row in owner.execute(UNSAFE)]
    shown = {
        name: owner.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0]
        for name in ("fsync", "full_page_writes", "synchronous_commit")
    }
    owner.rollback()
    assert sorted(told) == sorted(f"{name}=off" for name, value in shown.items() if value == "off")

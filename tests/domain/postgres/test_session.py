"""B2, B3: whatever a role or the environment says about a session,
the ledger keeps its promises.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.errors import StoreReadOnly, TokenRevoked, TokenUnknown
from domain.postgres.connection import open_connection
from domain.postgres.session import (
    COMMAND,
    FOLLOWING,
    MIGRATING,
    READING,
    REBUILDING,
    SERVING,
    Session,
)
from domain.postgres.trouble.unusable_reasons import TAKES_NO_WRITES
from domain.scim_token.events import Presentation
from domain.secret import SecretKind, mint
from projections.ledger_check import check_ledger
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.scim_tokens.queries import TokenQueries
from tests.conftest import APP_ROLE, Database, new_database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.turns import by_turns

ROOT: Final = Path(__file__).parents[3]
TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim", user_agent="Zoë ☃")
CONNECTS: Final = re.compile(
    r"\b(psycopg|Async\w*|Bounded|Cancellable|Connection|PGconn)\.connect(_start)?\("
)
THE_ONE_PLACE: Final = Path("domain", "postgres", "connection.py")
TO_NOWHERE: Final = Path("api", "settings", "connection_string.py")
"""Asks libpq what it thinks of a connection string, at a socket that nobody has."""

DANGEROUS: Final = [
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("DateStyle", "German"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Pacific/Auckland"),
    ("client_encoding", "LATIN1"),
    ("client_encoding", "SQL_ASCII"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("standard_conforming_strings", "off"),
    ("search_path", "evil, pg_catalog"),
    ("statement_timeout", "20"),
    ("transaction_timeout", "20"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "100"),
    ("client_min_messages", "error"),
    ("exit_on_error", "on"),
    ("synchronous_commit", "off"),
    ("enable_indexscan", "off"),
    ("session_replication_role", "replica"),
    ("tcp_user_timeout", "1"),
]
BROKEN_WITHOUT: Final = {"default_transaction_isolation", "DateStyle", "search_path"}
"""Of those, what is seen to break where nothing is stated."""
FIRST_OF_ALL: Final = BROKEN_WITHOUT | {"statement_timeout", "transaction_timeout"}
"""What the ordinary run tries in any case; an older release has no transaction_timeout."""

STRINGS: Final[Mapping[str, list[str]]] = {
    "DateStyle": ["German", "SQL, DMY", "Postgres, YMD", "ISO, DMY"],
    "TimeZone": ["Pacific/Auckland", "America/St_Johns"],
    "client_encoding": ["LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252"],
    "search_path": ["", "evil, pg_catalog"],
    "default_tablespace": [""],
    "lc_numeric": ["C"],
    "lc_time": ["C"],
    "lc_monetary": ["C"],
    "timezone_abbreviations": ["Australia", "India"],
    "restrict_nonsystem_relation_kind": ["view", "view, foreign-table"],
    "default_text_search_config": ["pg_catalog.german"],
    "application_name": ["another"],
    "plpgsql.extra_errors": ["all"],
    "plpgsql.extra_warnings": ["all"],
}
"""Of the others a wrong value is an operator's own: a library that is not there, a table space."""

NOT_OURS: Final = {
    "default_transaction_read_only": "an operator means it: refused in words",
    "transaction_read_only": "the same",
    "transaction_isolation": "of one transaction, which no role can have",
    "transaction_deferrable": "the same",
    "idle_session_timeout": "of 1 ms ends the session before it can state "
    "anything; 100 ms is tried above",
    "max_stack_depth": "a limit of what an operator gives",
    "temp_file_limit": "the same",
    "role": "another role is another role",
}
LARGEST_TRIED: Final = 2**31 - 1
FEW: Final = 20
"""Of a time-out, milliseconds: fewer, and a busy machine would not even read what takes it back."""


@pytest.fixture(scope="module")
def ledger(server: str) -> Iterator[Database]:
    """A database whose role may be told anything, with functions in the way of PostgreSQL's own."""
    with new_database(server) as made:
        with psycopg.connect(made.owner, autocommit=True) as owner:
            owner.execute("CREATE SCHEMA evil")
            owner.execute("CREATE FUNCTION evil.now() RETURNS text LANGUAGE sql AS $$ SELECT '' $$")
            owner.execute(
                "CREATE FUNCTION evil.cardinality(anyarray) RETURNS int LANGUAGE sql AS $$ "
                "SELECT 0 $$"
            )
            owner.execute(
                "CREATE FUNCTION evil.max(bigint) RETURNS bigint LANGUAGE sql AS $$ "
                "SELECT 0::bigint $$"
            )
            owner.execute(f"GRANT USAGE ON SCHEMA evil TO {APP_ROLE}")
        yield made


def tell(database: Database, name: str, value: str) -> None:
    """What the role's sessions in this database begin with."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        assert owner.info.dbname.startswith("test_")
        target = sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(
            sql.Identifier(APP_ROLE), sql.Identifier(owner.info.dbname)
        )
        owner.execute(target + sql.SQL("RESET ALL"))
        owner.execute(target + set_to(name, value))


def set_to(name: str, value: str) -> sql.Composed:
    """What follows ALTER ROLE or ALTER DATABASE."""
    said = sql.SQL(value) if name == "search_path" and value else sql.Literal(value)
    return sql.SQL("SET {} = {}").format(sql.Identifier(name), said)


async def essentials(database: Database) -> None:
    """Create, use, revoke, refuse, list, all of it by two processes at once; the views follow."""
    async with open_ledger(database.app) as one, open_ledger(database.app) as other:
        name = f"Zoë ☃ {uuid4()}"
        api_token, api_secret = await one.create_api_token(
            NewApiToken(uuid4(), None, tuple(Permission), None)
        )
        token, secret = await one.create_scim_token(NewScimToken(TEAM, name), by=api_token.id)
        kept, _ = await other.create_scim_token(NewScimToken(TEAM, name), by=ADA)
        for _ in range(3):
            done = await asyncio.gather(
                *(ledger.authenticate(secret, IDP) for ledger in (one, other)),
                *(
                    ledger.create_scim_token(NewScimToken(TEAM, name), by=ADA)
                    for ledger in (other, one)
                ),
            )
            assert len(done) == 4
        await other.rotate_scim_token(token.id, by=ADA)
        await other.revoke_scim_token(token.id, by=ADA, reason="Grüße")
        with pytest.raises(TokenRevoked):
            await one.authenticate(secret, IDP)
        with pytest.raises(TokenUnknown):
            await other.authenticate(mint(SecretKind.SCIM_TEST, bytes(32)), IDP)
        caller = await other.api_token_lookup.find(other.pepper.candidates(api_secret))
        assert caller is not None
        assert caller.api_token.id == api_token.id
        assert caller.ledger_head > 0
        revoked = await other.scim_token(token.id)
        with open_connection(database.app, session=FOLLOWING) as following:
            Runner(database.app, PROJECTIONS).catch_up(following)
        found = await TokenQueries(one.reads).find(
            kept.id, teams=None, ledger_head=caller.ledger_head
        )
        assert found is not None
        document = json.loads(found)
        assert document["name"] == name
        assert datetime.fromisoformat(document["created_at"]) == kept.created_at
        assert one.replay(token.id) == revoked
    with open_connection(database.app, session=COMMAND) as connection:
        assert check_ledger(connection).damage is None


def test_nothing_else_opens_a_connection() -> None:
    """B2: what one place states, no other can forget."""
    sources = [
        path
        for room in ("domain", "projections", "api", "deploy")
        for path in (ROOT / room).rglob("*.py")
    ]
    assert len(sources) > 50
    opening = {path.relative_to(ROOT) for path in sources if CONNECTS.search(path.read_text())}
    assert opening == {THE_ONE_PLACE, TO_NOWHERE}


@pytest.mark.parametrize(
    ("name", "value"), by_turns(DANGEROUS, one_of=4, is_kept=lambda name, _: name in FIRST_OF_ALL)
)
def test_the_ledger_is_the_same_whatever_the_role_says(
    ledger: Database, name: str, value: str
) -> None:
    if not is_known(ledger, name):
        pytest.skip(f"this PostgreSQL has no {name}")
    tell(ledger, name, value)
    asyncio.run(essentials(ledger))
    assert_consistent(ledger)


def is_known(database: Database, name: str) -> bool:
    """PostgreSQL 17 brought transaction_timeout; 15 and 16 have all the others."""
    with psycopg.connect(database.owner) as connection:
        return name != "transaction_timeout" or connection.info.server_version >= 170_000


@pytest.mark.slow
def test_the_ledger_is_the_same_for_every_setting_that_a_role_can_have(ledger: Database) -> None:
    failed: list[str] = []
    tried = 0
    for name, some in what_a_role_can_have(ledger.owner).items():
        for value in some:
            tell(ledger, name, value)
            tried += 1
            try:
                asyncio.run(essentials(ledger))
            except Exception as error:  # noqa: BLE001 - all of them are told in the end
                failed.append(f"{name} = {value}: {type(error).__name__}: {error}")
    assert_consistent(ledger)
    assert tried > 300
    assert not failed, "\n".join(failed)


def what_a_role_can_have(conninfo: str) -> Mapping[str, list[str]]:
    """Values of every setting, those of PL/pgSQL included; conninfo: of a superuser."""
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute("LOAD 'plpgsql'")
        settings = owner.execute(
            "SELECT name, vartype, enumvals, min_val, max_val FROM pg_settings WHERE context IN "
            "('user', 'superuser') ORDER BY name"
        ).fetchall()
    return {name: values(name, *kind) for name, *kind in settings if name not in NOT_OURS}


def values(name: str, kind: str, choices: list[str] | None, least: str, most: str) -> list[str]:
    """A few that say something."""
    if kind == "bool":
        return ["on", "off"]
    if kind == "enum":
        assert choices is not None
        return choices
    if kind == "string":
        return STRINGS.get(name, [])
    largest = min(float(most), LARGEST_TRIED)
    if name == "vacuum_buffer_usage_limit":
        return ["0", "128"]  # nothing between
    few = {float(least), min(float(least) + FEW, largest), largest}
    return [f"{value:g}" if kind == "real" else str(int(value)) for value in sorted(few)]


def test_without_what_we_state_it_is_not(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: sessions that state nothing."""
    monkeypatch.setattr(Session, "statements", lambda *_: b"SELECT 1")
    broken = set()
    for name, value in DANGEROUS:
        if name in BROKEN_WITHOUT:
            tell(ledger, name, value)
            try:
                asyncio.run(essentials(ledger))
            except Exception:  # noqa: BLE001 - whatever it was
                broken.add(name)
    tell(ledger, "jit", "off")
    assert broken == BROKEN_WITHOUT


@pytest.mark.parametrize(
    "environment",
    by_turns(
        [
            {
                "PGOPTIONS": "-cDateStyle=German -cdefault_transaction_isolation=serializable "
                "-clock_timeout=1"
            },
            {"PGDATESTYLE": "German", "PGTZ": "Asia/Kathmandu", "PGGEQO": "off"},
            {"PGCLIENTENCODING": "LATIN1"},
            {"PGCLIENTENCODING": "SQL_ASCII"},
            {"PGTARGETSESSIONATTRS": "standby"},
            {"PGAPPNAME": "another", "PGSSLMODE": "prefer", "PGCONNECT_TIMEOUT": "1"},
        ],
        one_of=3,
    ),
)
def test_the_ledger_is_the_same_whatever_the_environment_says(
    ledger: Database, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
) -> None:
    """B3: libpq reads variables of its own."""
    tell(ledger, "jit", "off")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(essentials(ledger))
    monkeypatch.undo()
    assert_consistent(ledger)


@pytest.mark.parametrize(
    "session",
    by_turns([SERVING, READING, COMMAND, FOLLOWING, REBUILDING, MIGRATING], one_of=6),
)
def test_every_profile_states_the_same(ledger: Database, session: Session) -> None:
    """What differs between them is how long they wait, how they plan,
    and whether they wait for the disk.
    """
    for name, value in DANGEROUS:
        if not is_known(ledger, name):
            continue
        tell(ledger, name, value)
        with open_connection(ledger.app, session=session) as connection:
            connection.execute("DO 'BEGIN END'")  # loads PL/pgSQL, and with it its settings
            found: dict[str, str] = dict(
                connection.execute("SELECT name, setting FROM pg_settings").fetchall()
            )
        for stated, expected in {**STATED, **session.more}.items():
            assert found[stated] == expected, f"{stated}, where the role says {name} = {value}"
        assert (found["synchronous_commit"] == "off") == (session is FOLLOWING)


STATED: Final[Mapping[str, Any]] = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "exit_on_error": "off",
    "idle_session_timeout": "0",
    "log_parameter_max_length_on_error": "0",
    "search_path": "pg_catalog, pg_temp",
    "standard_conforming_strings": "on",
}


@pytest.mark.parametrize("stronger", ["remote_apply", "remote_write"])
def test_a_stronger_commit_stays(ledger: Database, stronger: str) -> None:
    tell(ledger, "synchronous_commit", stronger)
    with open_connection(ledger.app, session=SERVING) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == (stronger,)


def test_a_role_that_may_only_read_is_refused_in_words(ledger: Database) -> None:
    """Whoever sets it means it: nothing of ours switches it off."""
    tell(ledger, "default_transaction_read_only", "on")
    with pytest.raises(StoreReadOnly, match=re.escape(TAKES_NO_WRITES)):
        open_connection(ledger.app)
    with pytest.raises(StoreReadOnly, match=re.escape(TAKES_NO_WRITES)):
        asyncio.run(essentials(ledger))
    with open_connection(ledger.app, is_examined=True) as connection:
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)

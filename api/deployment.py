"""Find the ledger's database: the one that DATABASE_URL names, or an embedded server.

Everything that starts (serve, the command line) goes through `open_store`, which yields settings in
which the connection string and the pepper are known.
"""

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api.clock_and_ids import CLOCK_AND_IDS
from api.settings import Settings, SettingsError, pepper_keys
from domain.errors import PepperMismatch
from domain.eventstore.known_head import positions
from domain.eventstore.known_head.head_file import FILE_NAME as HEAD_FILE_NAME
from domain.eventstore.peppers.fingerprints import compare_pepper, has_pepper, record_pepper
from domain.files.whole_file import whole_file
from domain.ledger import TokenLedger
from domain.postgres.connection import OUT_OF_REACH, open_connection, unavailable
from domain.postgres.destinations import require_one_database, require_place
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres, default_base_dir
from domain.postgres.migrate import applied, migrate, pending
from domain.postgres.session import SERVING, UNSAFE
from domain.secret import Pepper

_DATABASE: Final = "scim_ledger"
_APP_ROLE: Final = "scim_ledger"
_OWNER: Final = "postgres"


class NotMigrated(Exception):
    """The database lacks migrations of this release."""


class UnsafeDatabase(Exception):
    """The server may lose what it has confirmed."""


class Keys(Enum):
    """What is done about the pepper's keys.

    RECORDED: new ones are written down; of a start, which alone makes a ledger where a directory
    holds none. COMPARED: they are those that the ledger knows; of every other command. IGNORED: of
    a repair.
    """

    RECORDED = "recorded"
    COMPARED = "compared"
    IGNORED = "ignored"


class Schema(Enum):
    """What is done about pending migrations.

    REQUIRED: they are refused on a server that DATABASE_URL names, and applied to the embedded one.
    MIGRATED: applied to both. KEPT: an earlier release's schema is taken as it is.
    """

    REQUIRED = "required"
    MIGRATED = "migrated"
    KEPT = "kept"


@contextmanager
def open_store(
    settings: Settings, *, keys: Keys = Keys.COMPARED, schema: Schema = Schema.REQUIRED
) -> Iterator[Settings]:
    """Settings with `database_url` and a pepper; the embedded server runs for the block at least.

    Raises as `require_place`; SettingsError, EmbeddedPostgresError, NotMigrated, UnsafeDatabase,
    WrongEncoding and PepperMismatch.
    """
    if settings.database_url is not None:
        if schema is Schema.MIGRATED:
            migrate_store(settings)
        require_place(settings.database_url, may_be_two=keys is Keys.RECORDED)
        yield _checked(settings, keys, schema)
        return
    server = embedded(settings)
    if keys is not Keys.RECORDED and not server.has_cluster:
        raise _no_ledger(server)
    server.start()
    try:
        with server.alone():
            prepared = _prepared(settings, server, keys, schema)
        yield _checked(prepared, keys, schema)
    finally:
        with _undisturbed():
            server.stop()


@contextmanager
def empty_store(settings: Settings) -> Iterator[None]:
    """The server runs for the block and has the database, in which nothing need be made yet."""
    if settings.database_url is not None:
        yield
        return
    server = embedded(settings)
    server.start()
    try:
        with server.alone():
            _make_database(server, makes=True)
        yield
    finally:
        with _undisturbed():
            server.stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No second Ctrl-C cuts short what the first began: it would leave the server behind."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _no_ledger(server: EmbeddedPostgres) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"There is no ledger in {server.base_dir}: scim-ledger serve makes one; "
        "one that is elsewhere is named with --data-dir or DATABASE_URL."
    )


def open_ledger(settings: Settings, *, on_append: Callable[[], None] = lambda: None) -> TokenLedger:
    """A ledger for one command of this process. on_append: as of `TokenLedger`.

    Raises SettingsError.
    """
    assert settings.database_url is not None
    return TokenLedger(
        settings.database_url,
        pepper=Pepper(pepper_keys(settings)),
        clock_and_ids=CLOCK_AND_IDS,
        is_live=settings.environment == "live",
        secret_prefix=settings.secret_prefix,
        revokes_leaked=settings.on_leak == "revoke",
        on_append=on_append,
        head_file=settings.head_file,
    )


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of these settings, not started."""
    return EmbeddedPostgres(settings.data_dir or default_base_dir())


def owner_conninfo(settings: Settings, *, needs_app: bool = True) -> str:
    """The connection string of the role that owns the schema; the embedded server is running.

    needs_app: whether the service's role has to be let in. Raises TwoDatabases where that is let
    into another database than the owner, and StoreUnavailable.
    """
    if settings.database_url is not None and settings.owner_database_url is not None:
        owner = settings.owner_database_url
        require_one_database(settings.database_url, owner, needs_app=needs_app)
    return owner_as_given(settings)


def owner_as_given(settings: Settings) -> str:
    """The same, not compared: for who has worked as the owner already, and is done."""
    if settings.database_url is None:
        return embedded(settings).conninfo(user=_OWNER, dbname=_DATABASE)
    return settings.owner_database_url or settings.database_url


def migrate_store(settings: Settings) -> list[int]:
    """Migrate the database as the owner; returns the numbers applied. The server is running.

    Where one that DATABASE_URL names is given a pepper, too, its keys are recorded. Raises as
    `open_store`, and MigrationError.
    """
    if settings.database_url is None:
        return migrate(owner_as_given(settings), app_role=_APP_ROLE)
    has_keys = settings.pepper is not None or settings.pepper_file is not None
    pepper = Pepper(pepper_keys(settings)) if has_keys else None
    owner = owner_conninfo(settings, needs_app=False)  # it may only be named yet
    require_place(owner)
    user = conninfo_to_dict(settings.database_url).get("user")
    app_role = user if owner != settings.database_url else None
    try:
        numbers = migrate(owner, app_role=None if app_role is None else str(app_role))
        if pepper is not None:
            with open_connection(owner) as connection:
                record_pepper(connection, pepper)
    except (*OUT_OF_REACH, psycopg.errors.InsufficientPrivilege) as error:
        raise unavailable(error) from error
    return numbers


def _make_database(server: EmbeddedPostgres, *, makes: bool) -> None:
    """The embedded server's role and database.

    Raises EmbeddedPostgresError where they are not to be made.
    """
    with open_connection(server.conninfo(user=_OWNER, dbname="postgres")) as admin:
        for known, statement in (
            ("SELECT 1 FROM pg_roles WHERE rolname = %s", sql.SQL("CREATE ROLE {} LOGIN")),
            ("SELECT 1 FROM pg_database WHERE datname = %s", sql.SQL("CREATE DATABASE {}")),
        ):
            if admin.execute(known, [_DATABASE]).fetchone() is None:
                if not makes:  # the first start was cut short
                    raise _no_ledger(server)
                admin.execute(statement.format(sql.Identifier(_DATABASE)))


def _prepared(settings: Settings, server: EmbeddedPostgres, keys: Keys, schema: Schema) -> Settings:
    """The embedded server's role, database, schema and pepper; made once, kept with its data."""
    _make_database(server, makes=keys is Keys.RECORDED)
    if schema is not Schema.KEPT:
        migrate_store(settings)
    pepper_file = settings.pepper_file
    if pepper_file is None and settings.pepper is None and keys is not Keys.IGNORED:
        pepper_file = _own_pepper(server)
    return msgspec.structs.replace(
        settings,
        database_url=server.conninfo(user=_APP_ROLE, dbname=_DATABASE),
        pepper_file=pepper_file,
        head_file=head_file(settings),
    )


def head_file(settings: Settings) -> Path | None:
    """Where this host keeps what it knows of the ledger; None for nowhere."""
    if settings.head_file is None and settings.database_url is None:
        return embedded(settings).base_dir / HEAD_FILE_NAME
    return settings.head_file


def own_pepper_file(server: EmbeddedPostgres) -> Path:
    """Where the embedded ledger's key is, unless the settings name another place."""
    return server.base_dir / "pepper"


def needs_pepper(settings: Settings) -> None:
    """Raises SettingsError where there is no pepper yet: what is restored has one."""
    if settings.pepper is not None or settings.pepper_file is not None:
        return
    if settings.database_url is not None:
        raise SettingsError("with DATABASE_URL a pepper is needed: set SCIM_LEDGER_PEPPER_FILE")
    kept = own_pepper_file(embedded(settings))
    if not kept.is_file():
        raise SettingsError(f"put the pepper of the backup in its place first, {kept}")


def _own_pepper(server: EmbeddedPostgres) -> Path:
    """The file of the embedded ledger's key, made with the ledger.

    Raises PepperMismatch where it is lost.
    """
    path = own_pepper_file(server)
    if not path.exists():
        with open_connection(server.conninfo(user=_OWNER, dbname=_DATABASE)) as connection:
            if has_pepper(connection):
                raise PepperMismatch(
                    f"the key of this ledger's secrets is lost, {path}: "
                    f"restore the file from a backup; "
                    "without it every token is void (docs/how-to/rotate-the-pepper.md)"
                )
        with whole_file(path) as file:
            file.write(secrets.token_urlsafe(48).encode())
    return path


def _checked(settings: Settings, keys: Keys, schema: Schema) -> Settings:
    assert settings.database_url is not None
    if settings.pepper is None and settings.pepper_file is None and keys is not Keys.IGNORED:
        raise SettingsError("with DATABASE_URL a pepper is needed: set SCIM_LEDGER_PEPPER_FILE")
    try:
        with open_connection(settings.database_url, session=SERVING) as connection:
            if pending(connection) and not (schema is Schema.KEPT and applied(connection)):
                raise NotMigrated(
                    "the database lacks migrations of this release: run scim-ledger migrate"
                )
            unsafe = [setting for (setting,) in connection.execute(UNSAFE)]
            _check_keys(connection, settings, keys)
            positions.follow(connection)
    except (*OUT_OF_REACH, psycopg.errors.InsufficientPrivilege) as error:
        raise unavailable(error) from error
    if unsafe and not settings.allow_unsafe_database:
        raise UnsafeDatabase(f"the database may lose confirmed events: {', '.join(unsafe)}")
    return settings


def _check_keys(connection: psycopg.Connection, settings: Settings, keys: Keys) -> None:
    if keys is Keys.IGNORED:
        return
    check = record_pepper if keys is Keys.RECORDED else compare_pepper
    check(connection, Pepper(pepper_keys(settings)))

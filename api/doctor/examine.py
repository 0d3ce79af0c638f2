"""Run the doctor's checks in order, and stop where the rest depends on what is wrong."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import msgspec
import psycopg

from api.deployment import embedded, own_pepper_file
from api.doctor import certificates, ledger, process, server
from api.doctor.finding import Finding, Status, fail, ok, parts, warn
from api.settings import Settings, SettingsError, given_twice
from domain.errors import SharedSession, StoreUnavailable
from domain.postgres.connection import OUT_OF_REACH, open_connection
from domain.postgres.destinations import (
    TwoDatabases,
    TwoPrimaries,
    require_one_database,
    require_one_primary,
    require_own_session,
)
from domain.postgres.session import SERVING, each_host
from domain.postgres.trouble.unusable_reasons import reason


def examine(load: Callable[[], Settings]) -> list[Finding]:
    """Look at everything that can be looked at. load: reads the settings, and may refuse them."""
    return list(_examine(load))


def _examine(load: Callable[[], Settings]) -> Iterator[Finding]:
    yield process.python()
    yield process.open_files()
    try:
        settings = load()
    except SettingsError as error:
        yield fail("settings", str(error), "correct or remove the variable")
        return
    yield from _settings(os.environ)
    yield from process.leak_reports(settings)
    yield from process.needs(settings)
    yield from certificates.of_https(settings)
    if settings.database_url is not None:
        yield from process.pepper(settings)
        yield from _database(settings.database_url, settings)
        return
    own = embedded(settings)
    running = process.embedded_server(own)
    yield running
    if running.status is Status.FAIL:
        return
    yield process.disk(own.base_dir)
    if settings.pepper is None and settings.pepper_file is None:
        settings = msgspec.structs.replace(settings, pepper_file=own_pepper_file(own))
    yield from process.pepper(settings)
    if own.is_running:
        yield from _database(own.conninfo(user="scim_ledger", dbname="scim_ledger"), settings)


def _settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a shell's variable, not the service's, decides which ledger is looked at."""
    twice = [parts(sentence) for sentence in given_twice(environment)]
    if twice:
        yield warn("settings", "; ".join(found for found, _ in twice), twice[0][1])
    else:
        yield ok("settings", "every variable is known")


def _sessions(conninfo: str) -> Iterator[Finding]:
    """Whether each connection has one. What else is wrong with the database the others tell."""
    with suppress(StoreUnavailable):
        try:
            require_own_session(conninfo)
            yield ok("sessions", "each connection has one of its own")
        except SharedSession as shared:
            yield fail("sessions", *parts(str(shared)))


def _hosts(conninfo: str) -> Iterator[Finding]:
    """Whether an old primary came back beside the new one: which of them is reached is chance."""
    count = len(each_host(conninfo))
    try:
        require_one_primary(conninfo)
        several = f"not more than one of {count} takes writes"
        yield ok("hosts", "one is named" if count == 1 else several)
    except TwoPrimaries as two:
        yield fail("hosts", *parts(str(two)))


def _owner(conninfo: str, settings: Settings) -> Iterator[Finding]:
    """Whether what is for the ledger's owner would be done in the service's database."""
    if settings.owner_database_url is None:
        return
    try:
        require_one_database(conninfo, settings.owner_database_url)
        yield ok("owner", "the owner's connection leads to the same database")
    except (TwoDatabases, StoreUnavailable) as error:
        finding = fail if isinstance(error, TwoDatabases) else warn
        yield finding("owner", *parts(str(error)))


def _database(conninfo: str, settings: Settings) -> Iterator[Finding]:
    try:
        with open_connection(conninfo, session=SERVING, is_examined=True) as connection:
            for finding in server.examine(connection, settings):
                yield finding
                if finding.status is Status.FAIL and finding.what in {"database", "encoding"}:
                    return
            yield from _hosts(conninfo)
            yield from _sessions(conninfo)
            yield from _owner(conninfo, settings)
            yield from certificates.of_database(conninfo, settings)
            yield from ledger.examine(connection, conninfo, settings)
    except (StoreUnavailable, *OUT_OF_REACH) as error:
        yield fail("database", *parts(reason(error)))
    except psycopg.errors.InsufficientPrivilege:
        yield fail(
            "rights", "the role of the service may not read all that it has to", ledger.MIGRATE
        )

"""D7: troubles of a whole server, on one that nobody else uses, and of the ways to it and to us."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import psycopg
import pytest

from api.doctor import network, server
from api.doctor.finding import Status
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import migrate
from tests.api.doctor.test_doctor import found
from tests.conftest import APP_ROLE, Database
from tests.domain.scenario import created
from tests.faults.proxy import proxy_thread
from tests.projections.given_events import record
from tests.ready_cluster import own_copy
from tests.service import until


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedPostgres]:
    """A server without checksums and without autovacuum, on which transactions can be prepared."""
    settings = {"max_prepared_transactions": "2", "autovacuum": "off"}
    with own_copy("doctor", settings=settings) as made:
        done = made._account.run(
            made.programs() / "pg_checksums", "--disable", "-D", made.base_dir / "data"
        )
        assert done.returncode == 0, done.stderr
        made.start()
        yield made


@pytest.fixture
def connection(own: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """Of its superuser."""
    with psycopg.connect(
        own.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as opened:
        yield opened


@pytest.fixture
def with_a_locale(own: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """Of the superuser, in a migrated ledger in a database whose locale has versions."""
    with psycopg.connect(
        own.conninfo(user="postgres", dbname="postgres"), autocommit=True
    ) as admin:
        admin.execute(
            "CREATE DATABASE with_a_locale TEMPLATE template0 "
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        )
        owner = own.conninfo(user="postgres", dbname="with_a_locale")
        migrate(owner, app_role=APP_ROLE)
        with psycopg.connect(owner, autocommit=True) as opened:
            yield opened
        admin.execute("DROP DATABASE with_a_locale")


@contextmanager
def configured(connection: psycopg.Connection, name: str, value: str) -> Iterator[None]:
    def is_(wanted: str) -> bool:
        return connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (wanted,)

    connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    connection.execute("SELECT pg_reload_conf()")
    until(lambda: is_(value), what="the setting")
    try:
        yield
    finally:
        connection.execute(f"ALTER SYSTEM RESET {name}".encode())
        connection.execute("SELECT pg_reload_conf()")
        until(lambda: not is_(value), what="the setting of before")


@pytest.mark.long
def test_a_standby_that_is_demanded_and_away_fails(connection: psycopg.Connection) -> None:
    assert server.standbys(connection).status is Status.OK
    with configured(connection, "synchronous_standby_names", "one"):
        finding = server.standbys(connection)
    assert (finding.status, finding.found) == (
        Status.FAIL,
        "demanded, and none is connected: each commit waits, and is answered 503",
    )


def test_pages_without_checksums_warn(connection: psycopg.Connection) -> None:
    assert server.checksums(connection).status is Status.WARN


def test_a_server_that_clears_nothing_away_warns(connection: psycopg.Connection) -> None:
    finding = server.vacuum(connection)
    assert (finding.status, finding.found.partition(";")[0]) == (Status.WARN, "off: autovacuum")


def test_a_replication_slot_that_nobody_reads_warns(connection: psycopg.Connection) -> None:
    assert server.snapshots(connection).status is Status.OK
    connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        finding = server.snapshots(connection)
    finally:
        connection.execute("SELECT pg_drop_replication_slot('forgotten')")
    assert finding.status is Status.WARN
    assert "the replication slot forgotten, which nobody reads" in finding.found


def test_a_prepared_transaction_that_nobody_ends_warns(connection: psycopg.Connection) -> None:
    with closing(psycopg.connect(connection.info.dsn)) as other:
        other.tpc_begin("forgotten")
        other.execute("SELECT pg_current_xact_id()")
        other.tpc_prepare()
    try:
        finding = server.snapshots(connection, max_=timedelta(0))
    finally:
        connection.execute("ROLLBACK PREPARED 'forgotten'")
    assert finding.status is Status.WARN
    assert finding.found.startswith(
        "dead rows or log files are kept for a prepared transaction of "
    )


def test_another_order_of_texts_warns_until_the_remedy_is_done(
    with_a_locale: psycopg.Connection,
) -> None:
    assert server.collation(with_a_locale).status is Status.OK
    with_a_locale.execute(
        "UPDATE pg_database SET datcollversion = '0' WHERE datname = 'with_a_locale'"
    )
    finding = server.collation(with_a_locale)
    assert finding.status is Status.WARN
    assert "of version 0 and is of 1" in finding.found
    indexes = finding.found.partition("found by ")[2].split(", ")
    assert indexes[0] == "ledger.aggregates_kind"
    for index in indexes:
        with_a_locale.execute(f"REINDEX INDEX CONCURRENTLY {index}".encode())
    with_a_locale.execute("ALTER DATABASE with_a_locale REFRESH COLLATION VERSION")
    assert server.collation(with_a_locale).status is Status.OK


@pytest.mark.parametrize(
    ("host", "hostaddr", "is_remote"),
    [
        ("/run/postgresql", "", False),
        ("@abstract", "", False),
        ("", "", False),
        ("localhost", "127.0.0.1", False),
        ("localhost", "", False),
        ("127.0.0.5", "127.0.0.5", False),
        ("::1", "::1", False),
        ("db", "", True),
        ("db", "127.0.0.1", False),
        ("localhost", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("2001:db8::7", "2001:db8::7", True),
    ],
)
def test_a_connection_leaves_the_machine_or_not(
    host: str, hostaddr: str, *, is_remote: bool
) -> None:
    assert network.is_remote(host, hostaddr) is is_remote


@pytest.mark.parametrize(
    ("away_s", "status"), [(0.0, Status.OK), (0.03, Status.WARN), (0.11, Status.FAIL)]
)
def test_a_database_that_is_far_away_is_told(
    database: Database, away_s: float, status: Status
) -> None:
    with proxy_thread(database.app) as proxy:
        proxy.tell(lambda proxy: setattr(proxy, "delay_s", away_s))
        with psycopg.connect(proxy.conninfo, autocommit=True) as connection:
            finding = network.round_trip(connection)
    assert (finding.what, finding.status) == ("round trip", status)


RESTRICTED = (
    "INSERT INTO ledger.secrets (digest, originator_id, owner_id, good_until, networks) "
    "VALUES (sha256(''), gen_random_uuid(), gen_random_uuid(), 'infinity', '{192.0.2.0/24}')"
)


@pytest.mark.parametrize(
    ("trusted", "status", "said"),
    [
        ("", Status.WARN, "no proxy is trusted"),
        ("10.0.0.0/8", Status.OK, "proxies are trusted"),
        ("0.0.0.0/0", Status.WARN, "every address is trusted as a proxy's"),
        ("10.0.0.7, ::/0", Status.WARN, "every address is trusted as a proxy's"),
        ("::ffff:0:0/96", Status.WARN, "every address is trusted as a proxy's"),
    ],
)
def test_whose_word_on_an_address_counts_is_judged_where_a_token_is_restricted(
    database: Database, trusted: str, status: Status, said: str
) -> None:
    def finding() -> tuple[Status, str]:
        told = found(database, trusted_proxies=trusted)["allowed networks"]
        return told.status, told.found

    assert finding()[0] is Status.OK
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(RESTRICTED)
    assert (finding()[0], said in finding()[1]) == (status, True), finding()


def test_a_look_through_all_secrets_may_take_longer_than_a_request(database: Database) -> None:
    """Ten rows stand for ten million: the service's role does not see them, but for a while."""
    record(database, created())
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO ledger.secrets (digest, originator_id, good_until, networks) "
            "SELECT sha256(n::text::bytea), gen_random_uuid(), 'infinity', '{::/0}' "
            "FROM generate_series(1, 10) AS n"
        )
        owner.execute(RESTRICTED)
        owner.execute("ALTER TABLE ledger.secrets ENABLE ROW LEVEL SECURITY")
        owner.execute(
            "CREATE POLICY slow ON ledger.secrets "
            "USING (CASE WHEN owner_id IS NULL THEN pg_sleep(0.2)::text <> '' ELSE true END)"
        )
    findings = found(database)
    assert "they let nobody in" in findings["allowed networks"].found
    assert "clock" in findings

"""C5: why a database cannot be used, in words with a remedy,
and without a value of the connection string.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import sleep
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli import commands
from domain.errors import StoreUnavailable
from domain.postgres.connection import OUT_OF_REACH, connect, open_connection
from domain.postgres.trouble.unusable_reasons import is_lost, reason
from tests.api.cli.test_commands import refused
from tests.ready_cluster import own_copy
from tests.turns import by_turns

CANARY: Final = "canary_5e1f"
"""Part of every name and password here, and of no answer."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that asks some for a password, and does not let others in; as its superuser."""
    with own_copy("own", settings={"max_connections": "20"}) as own:
        own.start()
        rules = own.base_dir / "data" / "pg_hba.conf"
        asks = f"local all {CANARY}_asked scram-sha-256\nlocal all {CANARY}_rejected reject\n"
        rules.write_text(asks + rules.read_text())
        conninfo = own.conninfo(user="postgres", dbname="postgres")
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("SELECT pg_reload_conf()")
            for role in ("asked", "rejected", "login", "limited"):
                admin.execute(f"CREATE ROLE {CANARY}_{role} LOGIN PASSWORD '{CANARY}'".encode())
            admin.execute(f"ALTER ROLE {CANARY}_limited CONNECTION LIMIT 0".encode())
            admin.execute(f"CREATE ROLE {CANARY}_nologin".encode())
            admin.execute(f"CREATE DATABASE {CANARY}_closed ALLOW_CONNECTIONS false".encode())
            admin.execute(f"CREATE DATABASE {CANARY}_private".encode())
            admin.execute(f"REVOKE CONNECT ON DATABASE {CANARY}_private FROM PUBLIC".encode())
        parts = conninfo_to_dict(conninfo)
        del parts["require_auth"]  # of a server that asks nobody for a password; this one does
        yield make_conninfo(**{name: str(value) for name, value in parts.items()})


def said(conninfo: str, *, is_unhurried: bool = True) -> str:
    """What both ways to connect say; and nothing that they were given."""
    with pytest.raises(StoreUnavailable) as refusal:
        asyncio.run(connect(conninfo, timeout_s=10.0 if is_unhurried else 0.3))
    if is_unhurried:
        with pytest.raises(StoreUnavailable) as other:
            open_connection(conninfo)
        assert str(other.value) == str(refusal.value)
    assert CANARY not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    by_turns(
        [
            (
                {"user": f"{CANARY}_asked", "password": f"not {CANARY}"},
                "refuses the user's password",
            ),
            ({"user": f"{CANARY}_asked"}, "refuses the user's password"),
            ({"user": f"{CANARY}_nologin"}, "may not log in"),
            ({"user": f"{CANARY}_rejected"}, "pg_hba.conf does not let this user in"),
            ({"user": f"{CANARY}_missing"}, "has no such role"),
            ({"user": f"of {CANARY}, missing"}, "has no such role"),
            ({"dbname": f"of {CANARY}, missing"}, "has no such database"),
            ({"user": f"{CANARY}_limited"}, "has no connection left"),
            ({"dbname": f"{CANARY}_missing"}, "has no such database"),
            ({"dbname": f"{CANARY}_closed"}, "is closed to connections"),
            (
                {"user": f"{CANARY}_login", "dbname": f"{CANARY}_private"},
                "the role may not connect",
            ),
            ({"host": f"/tmp/{CANARY}"}, "nothing listens at the host and port"),
            ({"host": f"{CANARY}.invalid"}, "the host of DATABASE_URL is unknown"),
            ({"options": f"-c {CANARY}=1"}, "does not take a parameter"),
            (
                {"user": f"{CANARY}_login", "options": "-c role=postgres"},
                "may not set an option of the connection string",
            ),
            (
                {"user": f"{CANARY}_login", "options": "-c log_statement=all"},
                "may not set an option of the connection string",
            ),
        ],
        one_of=3,
    ),
)
def test_a_refusal_is_told_by_its_class(server: str, given: dict[str, str], expected: str) -> None:
    found = said(make_conninfo(server, **given))
    assert expected in found
    assert ": " in found, "the remedy"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sslmode": CANARY}, "has a value that it cannot have"),
        ({"port": "99999"}, "has a value that it cannot have"),
        ({"host": "one,two", "port": "1,2,3"}, "has a value that it cannot have"),
        ({"target_session_attrs": CANARY, "require_auth": CANARY}, "a value that it cannot have"),
        ({"service": CANARY}, "the service of the connection string is not known"),
        ({"require_auth": "scram-sha-256"}, "does not authenticate as the connection string"),
        ({"host": "/tmp/service file of tls certificate"}, "nothing listens at the host and port"),
        ({"user": "the private key of a certificate"}, "has no such role"),
    ],
    ids=str,
)
def test_what_libpq_does_not_take_is_told_by_its_words_and_not_by_what_was_given(
    server: str, given: dict[str, str], expected: str
) -> None:
    assert expected in said(make_conninfo(server, **given))


@pytest.mark.parametrize(
    "words",
    [
        "[Errno -2] Name or service not known",
        "[Errno -3] Temporary failure in name resolution",
        "[Errno -4] Non-recoverable failure in name resolution",
        "[Errno -5] No address associated with hostname",
        "[Errno 8] nodename nor servname provided, or not known",
        'could not translate host name "ledger" to address: Unknown host',
        "failed to resolve host 'ledger': Unknown host",
    ],
)
def test_a_host_that_has_no_address_is_told_whoever_looked_for_it(words: str) -> None:
    """psycopg passes on what the system says; libpq says it in words of its own."""
    assert reason(psycopg.OperationalError(words)).startswith("the host of DATABASE_URL is unknown")


def test_a_server_without_a_free_place(server: str) -> None:
    everybodys = make_conninfo(server, user=f"{CANARY}_login")
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(psycopg.connect(everybodys))
        assert "has no connection left" in said(everybodys)


@contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """Something that listens and says only this, or nothing at all; its connection string."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with_end = []
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    break
                with_end.append(accepted)
                if answer is not None:
                    accepted.recv(8)
                    accepted.sendall(answer)
                    accepted.close()
            for accepted in with_end:
                accepted.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield make_conninfo(
                host="127.0.0.1", port=listening.getsockname()[1], user=CANARY, dbname=CANARY
            )
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_server_without_tls_where_it_is_demanded() -> None:
    with listener(b"N") as conninfo:
        assert "offers no TLS, which sslmode demands" in said(
            make_conninfo(conninfo, sslmode="require")
        )


def test_a_server_that_hangs_up_and_one_that_says_nothing() -> None:
    with listener(b"") as conninfo:
        assert "closed the connection" in said(
            make_conninfo(conninfo, sslmode="disable", gssencmode="disable")
        )
    with listener(None) as conninfo:
        assert "did not answer in time" in said(
            make_conninfo(conninfo, sslmode="disable"), is_unhurried=False
        )


def test_a_certificate_that_cannot_be_verified() -> None:
    with listener(b"S") as conninfo:
        demands = make_conninfo(conninfo, sslmode="verify-full", sslrootcert=f"/{CANARY}")
        assert "certificate cannot be verified" in said(demands)


@pytest.mark.parametrize("command", [("serve",), ("migrate",), ("token", "list")], ids=" ".join)
def test_every_command_says_so_in_one_line(server: str, command: tuple[str, ...]) -> None:
    found = refused(
        make_conninfo(server, user=f"{CANARY}_asked", password=f"not {CANARY}"), *command
    )
    assert found.startswith("the database refuses the user's password: ")


@pytest.mark.parametrize(
    "limit", ["transaction_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
)
def test_a_session_that_the_server_gives_up_is_lost_and_a_command_says_to_repeat_it(
    server: str, limit: str
) -> None:
    """Whoever was stopped (Ctrl-Z) meanwhile reads our sentence, and none of the server's."""
    is_autocommit = limit == "idle_session_timeout"
    with open_connection(server, is_autocommit=is_autocommit) as connection:
        if not connection.execute("SELECT FROM pg_settings WHERE name = %s", [limit]).fetchall():
            pytest.skip("this release of PostgreSQL has no such limit")
        connection.execute("SELECT set_config(%s, '50ms', false)", [limit])
        if not is_autocommit:
            connection.commit()
            connection.execute("SELECT")
        sleep(0.3)
        with pytest.raises(OUT_OF_REACH) as error:
            connection.execute("SELECT")
    assert is_lost(error.value)
    assert commands._line(error.value) == (
        "the database closed the connection, or the network lost it: "
        "the log of the database says which; then repeat it"
    )

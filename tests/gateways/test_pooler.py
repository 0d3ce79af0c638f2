"""C4: PgBouncer before the database.

Its session mode is a database; any other is refused in one sentence.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.doctor.finding import Status
from domain.errors import SharedSession
from domain.postgres.destinations import require_own_session
from tests.api.cli.test_commands import refused, run
from tests.api.doctor.certificates.tls import signed, trusted
from tests.api.doctor.test_doctor import found
from tests.conftest import Database
from tests.faults.database.test_switchover import BACK_WITHIN_S, Client, demote
from tests.faults.standby import cluster
from tests.gateways.programs import SEARCH_PATH, free_port, require
from tests.presenting import UNLIMITED
from tests.service import COMMAND, running_service, service_environment, until
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.gateway

SENTENCE: Final = str(SharedSession())
SEVERAL_LIVES_S: Final = 4.0
"""Of a connection to the server that lives for a second: who asks alone gets the same one again."""


@dataclass(frozen=True)
class Pooled(Database):
    """A database behind a pooler. configuration: of the pooler. pid: its process id."""

    configuration: Path
    pid: int

    def set(self, **settings: str) -> None:
        """Change settings while it runs."""
        text = self.configuration.read_text()
        for name, value in settings.items():
            text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        self.configuration.write_text(text)
        os.kill(self.pid, signal.SIGHUP)


@contextmanager
def pgbouncer(database: Database, *, mode: str, **settings: str) -> Iterator[Pooled]:
    """PgBouncer before the server of a database, on a Unix socket of its own;
    the database through it.
    """
    require({"pgbouncer": "apt-get install pgbouncer"})
    parts = conninfo_to_dict(database.app)
    directory = Path(tempfile.mkdtemp(prefix="scim-ledger-pgbouncer-", dir="/tmp"))
    given = {
        "listen_port": "6432",
        "unix_socket_dir": str(directory),
        "auth_type": "trust",
        "auth_file": str(directory / "users"),
        "pool_mode": mode,
        "default_pool_size": "40",
        **settings,
    }
    users = {str(conninfo_to_dict(conninfo)["user"]) for conninfo in (database.app, database.owner)}
    (directory / "users").write_text("".join(f'"{user}" ""\n' for user in users))
    configured = "".join(f"{name} = {value}\n" for name, value in given.items())
    server = f"host={parts['host']} port={parts['port']}"
    (directory / "ini").write_text(f"[databases]\n* = {server}\n[pgbouncer]\n{configured}")
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root, and the server's socket is for its owner
        owner = Path(str(parts["host"])).stat()
        as_user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        os.chown(directory, owner.st_uid, owner.st_gid)
    program = shutil.which("pgbouncer", path=SEARCH_PATH)
    assert program is not None
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, directory / "ini"], stdout=log, stderr=log, cwd="/", **as_user
        )
    try:
        socket = directory / f".s.PGSQL.{given['listen_port']}"
        until(socket.exists, what="pgbouncer", tell=(directory / "log").read_text)
        through = {"host": str(directory), "port": given["listen_port"]}
        yield Pooled(
            make_conninfo(database.owner, **through),
            make_conninfo(database.app, **through),
            directory / "ini",
            process.pid,
        )
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory)


OTHERS: Final = [
    pytest.param("transaction", {}, id="transaction"),
    pytest.param("transaction", {"server_round_robin": "1", "min_pool_size": "5"}, id="in turns"),
    pytest.param("transaction", {"default_pool_size": "1"}, id="of one"),
    pytest.param("statement", {}, id="statement"),
]


@pytest.mark.parametrize(("mode", "settings"), OTHERS)
def test_another_mode_is_refused_by_every_command_and_found_by_the_doctor(
    database: Database, mode: str, settings: dict[str, str]
) -> None:
    with pgbouncer(database, mode=mode, **settings) as through:
        for command in (("serve", "--port", "0"), ("token", "list"), ("migrate",)):
            assert refused(through.app, *command) == SENTENCE
        examined = json.loads(run(through.app, "doctor", "--json").stdout)
    (finding,) = [finding for finding in examined if finding["what"] == "sessions"]
    assert (finding["status"], f"{finding['found']}: {finding['remedy']}") == ("fail", SENTENCE)


@pytest.mark.parametrize(("mode", "settings"), OTHERS[:3])
def test_it_is_found_also_while_others_use_the_pool(
    database: Database, mode: str, settings: dict[str, str]
) -> None:
    with pgbouncer(database, mode=mode, **settings) as through, ThreadPoolExecutor(4) as threads:

        def busy(_: int) -> None:
            with psycopg.connect(
                through.app, autocommit=True, prepare_threshold=None
            ) as connection:
                for _ in range(200):
                    connection.execute("SELECT 1")

        others = [threads.submit(busy, number) for number in range(4)]
        for _ in range(10):
            with pytest.raises(SharedSession):
                require_own_session(through.app)
        for other in others:
            other.result()


def test_session_mode_is_a_database_like_any_other(database: Database) -> None:
    with pgbouncer(database, mode="session") as through:
        require_own_session(through.app)
        with running_service(Database(database.owner, through.app), workers=2) as service:
            admin, team = service.api_token(), str(uuid4())
            for _ in range(5):
                made = service.client.post(
                    "/scim-token", json={"team_id": team, "name": "Zoë"}, auth=admin
                )
                assert made.status_code == 201
                bearer = {"Authorization": f"Bearer {made.json()['token']}"}
                assert service.client.get("/gateway/nginx", headers=bearer).status_code == 200
                read = service.client.get(f"/scim-token/{made.json()['id']}", auth=admin)
                assert (read.status_code, read.json()["name"]) == (200, "Zoë")


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("token", "list"), ("doctor",)])
def test_a_pool_whose_connections_are_taken_is_told(
    database: Database, command: tuple[str, ...]
) -> None:
    """PgBouncer lets everybody in, and keeps them waiting for two minutes."""
    with (
        pgbouncer(database, mode="session", default_pool_size="1") as through,
        psycopg.connect(through.app, autocommit=True) as taking,
    ):
        taking.execute("SELECT 1")
        done = subprocess.run(
            [COMMAND, *command],
            env=service_environment(through.app),
            capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "did not answer in time" in done.stdout + done.stderr


def test_a_mode_that_is_changed_while_the_service_runs_answers_with_no_other_statement(
    database: Database,
) -> None:
    """Each session is any connection's then: prepared statements by the same names were found."""
    with (
        pgbouncer(database, mode="session", server_lifetime="1") as through,
        running_service(Database(database.owner, through.app), workers=2) as service,
    ):
        admin = service.api_token()
        asked = {"team_id": str(uuid4()), "name": "x"}
        assert service.client.post("/scim-token", json=asked, auth=admin).status_code == 201

        def listed(answer: httpx.Response) -> list[str]:
            return [found["id"] for found in answer.json()["result"]]

        wanted = {
            path: listed(service.client.get(path, auth=admin))
            for path in ("/scim-token", "/api-token")
        }
        through.set(pool_mode="transaction")
        with psycopg.connect(database.owner, autocommit=True) as beside:
            beside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        statuses, problems = set(), set()
        watch = Stopwatch()
        while watch.read_s() < SEVERAL_LIVES_S:
            for path, ids in wanted.items():
                answer = service.client.get(path, auth=admin)
                statuses.add(answer.status_code)
                if answer.status_code == HTTPStatus.OK:
                    assert listed(answer) == ids
            ready = service.client.get("/readyz")
            statuses.add(ready.status_code)
            problems |= set(ready.json()["problems"])
        assert statuses <= {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
        assert problems == {SENTENCE}
        examined = json.loads(run(through.app, "doctor", "--json").stdout)
        assert SENTENCE in {f"{finding['found']}: {finding['remedy']}" for finding in examined}
        through.set(pool_mode="session")


@pytest.mark.parametrize("is_fenced", [True, False], ids=["fenced", "killed"])
def test_a_pooler_that_is_pointed_at_the_promoted_server_is_followed(*, is_fenced: bool) -> None:
    """RELOAD ends no session: those on the old server are left by us, or broken with it."""
    with (
        cluster() as pair,
        pgbouncer(pair.primary.database, mode="session", server_login_retry="1") as through,
        running_service(
            Database(pair.primary.database.owner, through.app), workers=2, environment=UNLIMITED
        ) as service,
    ):
        client = Client(service)
        client.warm()
        pair.until_streaming()
        if is_fenced:
            demote(pair)
            known = pair.primary.ask("SELECT count(*) FROM ledger.events")
        else:
            pair.kill_primary()
            assert not client.is_well()  # so that the pooler has asked it in vain
        pair.promote()
        old, new = (
            str(conninfo_to_dict(server.conninfo)["host"])
            for server in (pair.primary, pair.standby)
        )
        through.configuration.write_text(through.configuration.read_text().replace(old, new))
        os.kill(through.pid, signal.SIGHUP)
        until(
            lambda: all(client.is_well() for _ in range(20)),  # of both workers, by all connections
            timeout_s=3 * BACK_WITHIN_S,  # the pooler waits between its attempts, too
            what="full service",
            tell=through.configuration.with_name("log").read_text,
        )
        if is_fenced:
            assert pair.primary.ask("SELECT count(*) FROM ledger.events") == known


def test_the_end_of_its_certificate_is_told_before(database: Database) -> None:
    """It is the pooler's that is verified, whatever the server behind it has."""
    with tempfile.TemporaryDirectory(prefix="scim-ledger-tls-", dir="/tmp") as directory:
        pem = signed(Path(directory) / "pem", for_days=3.5)
        pem.chmod(0o644)
        Path(directory).chmod(0o755)  # it runs as another user
        tls = {"client_tls_key_file": str(pem), "client_tls_cert_file": str(pem)}
        listening = {"listen_addr": "127.0.0.1", "listen_port": str(free_port())}
        with pgbouncer(
            database, mode="session", client_tls_sslmode="require", **tls, **listening
        ) as through:
            port = int(listening["listen_port"])
            findings = found(through, database_url=trusted(database, port, root=pem))
    assert findings["tls"].found == "the connection is encrypted"
    warned = findings["database certificates"]
    assert f"the database server 127.0.0.1:{port} ends on" in warned.found
    assert warned.status is Status.WARN


def test_without_a_pooler_each_connection_has_its_own(database: Database) -> None:
    for _ in range(20):
        require_own_session(database.app)

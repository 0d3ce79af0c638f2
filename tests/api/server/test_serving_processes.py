"""The processes of one `serve`: how they stop, which are replaced (A23), where they listen (C7)."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from api.server import supervisor
from api.server.listening import bind, url_of
from api.server.worker_process import worker_argv
from domain.api_token.permissions import Permission
from tests.conftest import Database
from tests.presenting import UNLIMITED
from tests.service import Caller, RunningService, running_service, service_environment, until

pytestmark = pytest.mark.long


def test_the_pause_before_a_restart_grows_to_its_limit_and_is_short_again_after_a_long_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One program cannot be started at all: it is tried again as the other is."""
    for name, value in (("FIRST", 0.1), ("MAX", 0.3)):
        monkeypatch.setattr(supervisor, f"BACKOFF_{name}_S", value)
    monkeypatch.setattr(supervisor, "HEALTHY_AFTER_S", 1.5)
    lives = tmp_path / "lives"
    lives_long = f"echo >> {lives}; [ $(wc -l < {lives}) != 5 ] || sleep 2; exit 7"
    programs = [
        supervisor.Program("dying", ("/bin/sh", "-c", lives_long)),
        supervisor.Program("missing", ("/nowhere/program",)),
    ]

    async def story() -> None:
        watched = supervisor.Supervisor(grace_s=1)
        running = asyncio.create_task(watched._run(programs))
        async with asyncio.timeout(30):
            while len(pauses("dying")) < 6 or len(pauses("missing")) < 6:
                await asyncio.sleep(0.02)
            watched._on_signal(signal.SIGTERM)
            await running

    def pauses(program: str) -> list[float]:
        return [
            line["restart_in_s"]
            for line in said
            if line["event"] == "program died" and line["program"] == program
        ]

    with capture_logs() as said:
        asyncio.run(story())
    assert pauses("dying")[:6] == [0.1, 0.2, 0.3, 0.3, 0.1, 0.2]
    assert pauses("missing")[:6] == [0.1, 0.2, 0.3, 0.3, 0.3, 0.3]


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def create(service: RunningService, caller: Caller) -> dict[str, Any]:
    answer = service.client.post(
        "/scim-token", auth=caller, json={"team_id": str(uuid4()), "name": "x"}
    )
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


def test_a_read_that_waits_for_its_view_is_answered_while_the_service_ends(
    database: Database,
) -> None:
    """What it waits for ends last: here it goes on only after the service was told to end."""
    with ThreadPoolExecutor(1) as pool, running_service(database) as service:
        made = create(service, service.api_token())
        reader = service.api_token(Permission.SCIM_TOKENS_READ)
        with standing_still(service.program_pids()["projections"]):
            again = create(service, service.api_token())
            address = f"{service.url}/scim-token"
            answer = pool.submit(httpx.get, address, auth=reader, timeout=10, trust_env=False)
            used = (
                "SELECT 1 FROM ledger.events WHERE originator_id = %s "
                "AND topic = 'api_token.used.v1'"
            )
            until(lambda: bool(service.query(used, reader.id)), what="the request")
            os.kill(service.pid, signal.SIGTERM)
            until(lambda: "stopping" in {record.get("event") for record in service.records()})
        found = answer.result(10)
        assert found.status_code == 200, found.text
        assert [token["id"] for token in found.json()["result"]] == [again["id"], made["id"]]


def test_each_request_is_answered_or_its_connection_refused_while_the_service_ends(
    database: Database,
) -> None:
    """So a load balancer may send it elsewhere: what is sent and then cut off it may not repeat."""
    refused: list[str] = []
    with running_service(database, workers=2, environment=UNLIMITED) as service:
        admin = service.api_token()

        def ask(team: str) -> str:
            """Until it fails, by connections that are kept as long as the service likes."""
            asked = {"team_id": team, "name": "x"}
            with httpx.Client(base_url=service.url, timeout=10, trust_env=False) as client:
                while True:
                    try:
                        answer = client.post("/scim-token", json=asked, auth=admin)
                    except httpx.HTTPError as error:
                        return type(error).__name__
                    assert answer.status_code in {201, 503}

        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, str(uuid4())) for _ in range(8)]
            time.sleep(1.0)  # all of them are at it
            os.kill(service.pid, signal.SIGTERM)
            refused += [each.result() for each in asking]
    assert set(refused) == {"ConnectError"}


def test_processes_that_stand_still_are_replaced(database: Database) -> None:
    """A23: a worker, and the process of the views. Who connects meanwhile waits, and is served."""
    with running_service(database) as service:
        caller = service.api_token()
        stopped = service.program_pids()
        assert set(stopped) == {"projections", "worker-1"}
        for pid in stopped.values():
            os.kill(pid, signal.SIGSTOP)

        def are_replaced() -> bool:
            return all(service.program_pids()[name] != pid for name, pid in stopped.items())

        until(are_replaced, timeout_s=30, what="the replacement", tell=service.log.read_text)

        def is_served() -> bool:
            made = create(service, caller)
            answer = service.client.get("/scim-token", auth=caller, params={"limit": "1"})
            return answer.status_code == 200 and bool(
                answer.json()["result"][0]["id"] == made["id"]
            )

        until(is_served, timeout_s=20, what="service", tell=service.log.read_text)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("is_flag", [True, False])
def test_one_service_listens_on_several_addresses(
    database: Database, workers: int, is_flag: bool
) -> None:
    """C7: the second is printed as a client writes it; both are served by each worker."""
    flags = ("--host", "127.0.0.1", "--host", "::1") if is_flag else ()
    hosts = {} if is_flag else {"SCIM_LEDGER_HOST": "127.0.0.1, ::1"}
    with running_service(database, *flags, workers=workers, environment=hosts) as service:
        port = httpx.URL(service.url).port
        assert f"scim-ledger listens on http://[::1]:{port}\n" in service.log.read_text()
        for _ in range(6):
            answer = httpx.get(f"http://[::1]:{port}/readyz", trust_env=False)
            assert answer.status_code == 200


def test_it_is_told_to_listen_once_it_answers_and_a_new_worker_lets_nobody_be_refused(
    database: Database,
) -> None:
    """So a gateway goes to another host at once, and loses nothing where a worker is replaced."""
    with running_service(database, workers=1) as service:
        said = service.log.read_text()
        assert said.index("program started") < said.index("listens on")
        os.kill(service.program_pids()["worker-1"], signal.SIGKILL)
        answer = httpx.get(f"{service.url}/healthz", timeout=20, trust_env=False)
        assert answer.status_code == 200


def test_a_port_that_is_taken_while_it_starts_is_told_and_waited_for(database: Database) -> None:
    """It is bound, and another program listens before a worker does."""
    with bind("127.0.0.1", 0) as ours, bind("127.0.0.1", ours.getsockname()[1]) as theirs:
        theirs.listen()
        address = url_of(ours)
        lifeline, held = os.pipe()
        argv = worker_argv(
            "api.app:create_app",
            listen_fds=[ours.fileno()],
            lifeline_fd=lifeline,
            worker_number=1,
        )
        ended = subprocess.run(
            argv, env=service_environment(database.app), pass_fds=(ours.fileno(), lifeline),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        os.close(lifeline)
        os.close(held)
    assert ended.returncode == 0, ended.stderr
    (told,) = (line for line in ended.stderr.splitlines() if "port in use" in line)
    assert address in told


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_peer_has_one_name_on_a_socket_for_both(database: Database) -> None:
    """C7: behind a proxy that is trusted by its IPv4 address."""
    environment = {"SCIM_LEDGER_HOST": "::", "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1"}
    with running_service(database, environment=environment) as service:
        caller = service.api_token()
        made = create(service, caller)
        port = httpx.URL(service.url).port
        assert service.url == f"http://[::]:{port}"
        headers = {"Authorization": f"Bearer {made['token']}", "X-Forwarded-For": "192.0.2.7"}
        answer = httpx.get(
            f"http://127.0.0.1:{port}/gateway/nginx", headers=headers, trust_env=False
        )
        assert answer.status_code == 200
        events = service.client.get(f"/scim-token/{made['id']}/events", auth=caller).json()[
            "result"
        ]
        assert events[0]["source"] == "192.0.2.7"

"""Two services on one database: what one answered, the other knows at once."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.scim_token.events import Created, Revoked, Used
from tests.conftest import Database, new_database
from tests.domain.eventstore.consistency import assert_consistent
from tests.service import Caller, RunningService, running_service, until

pytestmark = pytest.mark.long

ROUNDS = 30


class Pair:
    """Two services of one ledger, and an API token for both."""

    def __init__(self, one: RunningService, other: RunningService) -> None:
        self.one, self.other = one.client, other.client
        self.admin: Caller = one.api_token()
        self.team = uuid4()

    def create(self, client: httpx.Client, **headers: str) -> httpx.Response:
        ask = {"team_id": str(self.team), "name": "Okta"}
        return client.post("/scim-token", json=ask, auth=self.admin, headers=headers)

    def revoke(self, client: httpx.Client, token: dict[str, Any]) -> httpx.Response:
        return client.delete(f"/scim-token/{token['id']}", auth=self.admin)

    def read(self, client: httpx.Client, token: dict[str, Any]) -> httpx.Response:
        return client.get(f"/scim-token/{token['id']}", auth=self.admin)

    def listed(self, client: httpx.Client) -> list[str]:
        answer = client.get(
            "/scim-token", params={"team_id": str(self.team), "limit": 1000}, auth=self.admin
        )
        return [token["id"] for token in answer.json()["result"]]

    @staticmethod
    def use(client: httpx.Client, token: dict[str, Any]) -> int:
        bearer = {"Authorization": f"Bearer {token['token']}"}
        return client.get("/scim/v2/Schemas", headers=bearer).status_code


@pytest.fixture
def pair(two_services: tuple[RunningService, RunningService]) -> Pair:
    return Pair(*two_services)


@pytest.fixture
def database(two_services: tuple[RunningService, RunningService]) -> Database:
    return two_services[0].database


def test_what_one_answered_the_other_knows_at_once(pair: Pair, database: Database) -> None:
    listed: list[str] = []
    for _, (here, there) in zip(
        range(ROUNDS), cycle([(pair.one, pair.other), (pair.other, pair.one)]), strict=False
    ):
        token = pair.create(here).json()
        listed.insert(0, token["id"])
        assert pair.read(there, token).json() == {
            key: token[key] for key in token if key != "token"
        }
        assert pair.listed(there) == listed
        assert pair.use(there, token) == 200
        assert pair.read(here, token).json()["last_used_at"] is not None
        assert pair.revoke(here, token).status_code == 200
        assert pair.use(there, token) == 401
        assert pair.read(there, token).status_code == 404
        listed.pop(0)
        listed.insert(0, pair.create(there).json()["id"])
        assert pair.listed(here) == listed
    assert_consistent(database)


def test_fifty_parallel_creations_are_fifty_tokens(pair: Pair, database: Database) -> None:
    with ThreadPoolExecutor(16) as threads:
        clients = [pair.one, pair.other] * 25
        answers = list(threads.map(pair.create, clients))
    assert [answer.status_code for answer in answers] == [201] * 50
    tokens = [answer.json() for answer in answers]
    assert len({token["id"] for token in tokens}) == len({token["token"] for token in tokens}) == 50
    assert (
        set(pair.listed(pair.one))
        == set(pair.listed(pair.other))
        == {token["id"] for token in tokens}
    )
    assert_consistent(database)


def test_one_idempotency_key_is_one_token_whichever_process_gets_it(
    pair: Pair, database: Database
) -> None:
    def create(client: httpx.Client) -> httpx.Response:
        return pair.create(client, **{"Idempotency-Key": "once"})

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(create, [pair.one, pair.other] * 5))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    (token_id,) = pair.listed(pair.other)
    assert {answer.json().get("token_id", token_id) for answer in answers} == {token_id}
    assert_consistent(database)


def test_no_use_is_lost_or_doubled_and_none_is_let_in_after_the_revocation(
    pair: Pair, database: Database
) -> None:
    """Ten tokens, used from both sides while each is revoked from one."""
    tokens = [pair.create(client).json() for client in (pair.one, pair.other) * 5]

    def wear_out(index: int) -> tuple[UUID, int]:
        token, let_in = tokens[index], 0
        here, there = (pair.one, pair.other) if index % 2 else (pair.other, pair.one)
        with ThreadPoolExecutor(3) as threads:
            for number in range(6):
                during = [threads.submit(pair.use, client, token) for client in (here, there)]
                if number == 3:
                    assert pair.revoke(here, token).status_code == 200
                    # These begin after the revocation was answered.
                    assert [pair.use(client, token) for client in (there, here)] == [401, 401]
                let_in += sum(use.result() == 200 for use in during)
        return UUID(token["id"]), let_in

    with ThreadPoolExecutor(5) as threads:
        let_in = dict(threads.map(wear_out, range(10)))
    states = assert_consistent(database)
    assert {id_: states[id_].uses for id_ in let_in} == let_in
    assert all(6 <= count <= 8 for count in let_in.values())


@pytest.mark.slow
def test_the_workers_of_one_service_keep_the_same_promises(server: str) -> None:
    with new_database(server) as database, running_service(database, workers=2) as service:
        pair = Pair(service, service)
        # A connection for each request: the kernel gives it to either worker.
        service.client.headers["Connection"] = "close"
        for _ in range(ROUNDS):
            token = pair.create(service.client).json()
            assert token["id"] in pair.listed(service.client)
            assert pair.use(service.client, token) == 200
            assert pair.revoke(service.client, token).status_code == 200
            assert pair.use(service.client, token) == 401
        counted = dict(service.query("SELECT topic, count(*) FROM ledger.events GROUP BY topic"))
        assert_consistent(database)
    assert {topic: counted[topic] for topic in (Created.topic, Used.topic, Revoked.topic)} == {
        Created.topic: ROUNDS,
        Used.topic: ROUNDS,
        Revoked.topic: ROUNDS,
    }


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no eventfd")
def test_the_workers_of_one_service_pass_on_one_turn(server: str) -> None:
    with new_database(server) as database, running_service(database, workers=2) as service:
        pids = [service.program_pids()[name] for name in ("worker-1", "worker-2")]
        assert len({_turn(pid) for pid in pids}) == 1
        token = Pair(service, service).create(service.client).json()
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: service.program_pids()["worker-1"] != pids[0], what="a new worker")
        assert _turn(service.program_pids()["worker-1"]) == _turn(pids[1])
        assert Pair.use(service.client, token) == 200


def _turn(pid: int) -> str:
    """The kernel's name for the eventfd that a worker was given."""
    place = Path(f"/proc/{pid}/environ")
    until(lambda: bool(place.read_bytes()), what="the program of a new process")
    environment = place.read_bytes().split(b"\0")
    (fd,) = (
        entry.partition(b"=")[2]
        for entry in environment
        if entry.startswith(b"SCIM_LEDGER_TURN_FD=")
    )
    about = Path(f"/proc/{pid}/fdinfo/{fd.decode()}").read_text().splitlines()
    return next(line for line in about if line.startswith("eventfd-id"))

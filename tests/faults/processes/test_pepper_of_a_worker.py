"""B6: the pepper's file changes under a running service;
a worker starts anew with what it finds there.
"""

import os
import signal
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from domain.eventstore.peppers.fingerprints import record_pepper
from domain.secret import Pepper, SecretKind, mint
from tests.conftest import Database
from tests.service import PEPPER_KEY, Caller, RunningService, running_service, until

ADDED: Final = "a key was added to the pepper since this process began: restart it with all"
ANOTHER: Final = "another-key-of-forty-characters-or-more-"
UNKNOWN: Final = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()
SENTENCE: Final = (
    "the pepper is not the one of this ledger: its key of generation 1 is another; "
    "give every key that the ledger knows, in order, the oldest first"
)


def restarted(service: RunningService) -> None:
    """Kill the worker, and wait until its successor answers at all."""
    pid = service.program_pids()["worker-1"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: service.program_pids()["worker-1"] != pid, what="another worker")

    def is_answering() -> bool:
        try:
            return service.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    until(is_answering, what="answering")


def asked(service: RunningService, caller: Caller, secret: str) -> dict[str, int]:
    """Every way in, and what the service says of itself."""
    held = {"Authorization": f"Bearer {secret}"}
    return {
        "nginx": service.client.get("/gateway/nginx", headers=held).status_code,
        "forward": service.client.get("/gateway/forward", headers=held).status_code,
        "scim": service.client.get("/scim/v2/ResourceTypes", headers=held).status_code,
        "verify": service.client.post("/verify", auth=caller, json={"token": secret}).status_code,
        "list": service.client.get("/scim-token", auth=caller).status_code,
        "burn": service.client.post("/revoke", data={"token": UNKNOWN}).status_code,
        "readiness": service.client.get("/readyz").status_code,
    }


@pytest.mark.long
def test_a_worker_with_another_pepper_says_503_and_never_401(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "pepper"
    path.write_text(PEPPER_KEY)
    environment = {"SCIM_LEDGER_PEPPER": "", "SCIM_LEDGER_PEPPER_FILE": str(path)}
    with running_service(database, environment=environment) as service:
        caller = service.api_token()
        body = {"team_id": str(uuid4()), "name": "Okta"}
        secret = service.client.post("/scim-token", auth=caller, json=body).json()["token"]
        good = asked(service, caller, secret)
        assert set(good.values()) == {200}

        path.write_text(ANOTHER)
        assert asked(service, caller, secret) == good, "it keeps the keys that it was started with"
        restarted(service)
        assert asked(service, caller, secret) == dict.fromkeys(good, 503)
        assert service.client.get("/readyz").json()["problems"] == [SENTENCE]

        path.write_text(PEPPER_KEY)
        restarted(service)
        assert asked(service, caller, secret) == good
        told = [record for record in service.records() if record["event"] == "pepper.refused"]
    assert [record["reason"] for record in told] == [SENTENCE], "told once, not at each request"


@pytest.mark.long
def test_planted_a_worker_that_compares_nothing_says_401(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "pepper"
    path.write_text(PEPPER_KEY)
    environment = {"SCIM_LEDGER_PEPPER": "", "SCIM_LEDGER_PEPPER_FILE": str(path)}
    with running_service(database, environment=environment) as service:
        caller = service.api_token()
        service.query(
            "CREATE OR REPLACE FUNCTION ledger.require_pepper(fingerprints bytea[]) RETURNS void "
            "LANGUAGE sql STABLE AS $$ SELECT $$"
        )
        path.write_text(ANOTHER)
        restarted(service)
        assert service.client.get("/scim-token", auth=caller).status_code == 401


@pytest.mark.long
def test_a_service_that_lacks_a_key_which_another_host_has_added_says_so(
    database: Database, tmp_path: Path
) -> None:
    """It knows no secret under that key, and answers 503 for each."""
    path = tmp_path / "pepper"
    path.write_text(PEPPER_KEY)
    environment = {
        "SCIM_LEDGER_PEPPER": "",
        "SCIM_LEDGER_PEPPER_FILE": str(path),
        "SCIM_LEDGER_PUBLIC_METRICS": "true",
    }

    def told() -> tuple[int, str, list[str], bool]:
        answer = service.client.get("/readyz")
        metrics = service.client.get("/metrics").text.splitlines()
        is_metric = 'scim_ledger_problem{cause="pepper"} 1' in metrics
        return answer.status_code, answer.json()["status"], answer.json()["problems"], is_metric

    with running_service(database, environment=environment) as service:
        assert told() == (200, "ready", [], False)
        with psycopg.connect(database.owner, autocommit=True) as owner:
            record_pepper(owner, Pepper([PEPPER_KEY.encode(), ANOTHER.encode()]))
        until(lambda: told() == (200, "degraded", [ADDED], True), timeout_s=10, what="its word")

        path.write_text(f"{PEPPER_KEY}\n{ANOTHER}\n")
        restarted(service)
        until(lambda: told() == (200, "ready", [], False), timeout_s=10, what="the end of it")

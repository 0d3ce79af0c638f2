"""An older state of the ledger, beneath a running service and before its start:
nobody is let in before the loss is declared.
"""

import subprocess
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import psycopg
import pytest

from domain.losses.declared import KnownEvent
from tests import postgres_programs
from tests.conftest import Database
from tests.service import (
    COMMAND,
    Caller,
    RunningService,
    running_service,
    service_environment,
    until,
)

pytestmark = pytest.mark.long

TEAM: Final = str(uuid4())
LETS_NOBODY_IN: Final = dict.fromkeys(
    ("nginx", "forward", "scim", "introspect", "verify", "list", "create", "readiness"), 503
)


class Host:
    """One host: its directory, its head file, its command line."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.head_file = directory / "head.json"
        self.environment = {"SCIM_LEDGER_HEAD_FILE": str(self.head_file)}

    def command(self, *words: str, is_good: bool = True) -> Any:
        """What a command answers, or what it complains of."""
        done = subprocess.run(
            [COMMAND, *words, "--json"], cwd=self.directory, capture_output=True, text=True,
            env=service_environment(
                self.database.app,
                SCIM_LEDGER_OWNER_DATABASE_URL=self.database.owner,
                **self.environment,
            ),
            timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == is_good, done.stdout + done.stderr
        return msgspec.json.decode(done.stdout) if is_good else done.stderr

    def known(self) -> int:
        """The position in the head file."""
        try:
            return msgspec.json.decode(self.head_file.read_bytes(), type=KnownEvent).position
        except FileNotFoundError:
            return 0

    def newest(self) -> int:
        """The last position of the ledger."""
        with psycopg.connect(self.database.owner) as connection:
            row = connection.execute("SELECT max(notification_id) FROM ledger.events").fetchone()
        assert row is not None
        return int(row[0])

    def restore(self) -> None:
        """Put the backup in the ledger's place: in one transaction, and no connection ends."""
        script = self.directory / "restore.sql"
        program = postgres_programs.directory() / "pg_restore"
        subprocess.run([program, "--file", script, "ledger.dump"], cwd=self.directory, check=True)
        script.write_text(f"DROP SCHEMA ledger CASCADE;\n{script.read_text()}")
        psql = postgres_programs.directory() / "psql"
        how = ("--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        subprocess.run(
            [psql, *how, "--file", str(script), self.database.owner],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def host(database: Database, tmp_path: Path) -> Host:
    return Host(database, tmp_path)


def asked(service: RunningService, caller: Caller, secret: str) -> dict[str, int]:
    """Every way in, and what the service says of itself."""
    held = {"Authorization": f"Bearer {secret}"}
    body = {"team_id": TEAM, "name": "Entra"}
    client = service.client
    return {
        "nginx": client.get("/gateway/nginx", headers=held).status_code,
        "forward": client.get("/gateway/forward", headers=held).status_code,
        "scim": client.get("/scim/v2/ResourceTypes", headers=held).status_code,
        "introspect": client.post("/introspect", auth=caller, data={"token": secret}).status_code,
        "verify": client.post("/verify", auth=caller, json={"token": secret}).status_code,
        "list": client.get("/scim-token", auth=caller).status_code,
        "create": client.post("/scim-token", auth=caller, json=body).status_code,
        "readiness": client.get("/readyz").status_code,
    }


def created(service: RunningService, caller: Caller) -> Any:
    body = {"team_id": TEAM, "name": "Okta"}
    return service.client.post("/scim-token", auth=caller, json=body).json()


def problems(service: RunningService) -> Any:
    """What the service says that is wrong with it; the views are made anew after a restore."""
    return service.client.get("/readyz").json()["problems"]


def presented(service: RunningService, token: Any) -> int:
    headers = {"Authorization": f"Bearer {token['token']}"}
    return service.client.get("/gateway/forward", headers=headers).status_code


def is_declared(host: Host, *, saved: int, lost: int) -> None:
    """Say what is lost, and that it is."""
    said = host.command("recover")
    assert (said["lost"], said["is_done"]) == (f"events {saved + 1} to {lost}", False)
    assert host.newest() == saved
    assert "reason" in host.command("recover", "--declare-loss", is_good=False)
    host.command("recover", "--declare-loss", "--reason", "the disk broke")
    assert host.newest() == host.known() == lost + 1
    assert "nothing is lost" in host.command("recover", is_good=False)


def is_told(service: RunningService, caller: Caller, *, saved: int, lost: int) -> None:
    """In the trail, and to a collector that had stored what is lost."""
    query = {"kind": "ledger.loss_declared"}
    (fact,) = service.client.get("/audit", auth=caller, params=query).json()["result"]
    assert fact["note"] == f"events {saved + 1} to {lost}"
    assert (fact["reason"], fact["position"]) == ("the disk broke", lost + 1)
    assert "@" in fact["operator"]
    (told,) = service.client.get("/events", auth=caller, params=query | {"after": lost}).json()
    assert (told["id"], told["type"]) == (str(lost + 1), "ledger.loss_declared")


def test_who_was_revoked_after_the_backup_is_not_let_in_by_its_restore(host: Host) -> None:
    with running_service(host.database, environment=host.environment) as service:
        caller = service.api_token()
        revoked, good = created(service, caller), created(service, caller)
        assert presented(service, revoked) == 200
        host.command("backup", "ledger.dump")
        saved = host.newest()
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        assert presented(service, revoked) == 401
        until(lambda: host.known() == host.newest(), what="the head file")

        host.restore()
        until(lambda: problems(service) != [], timeout_s=5, what="the notice")
        assert asked(service, caller, revoked["token"]) == LETS_NOBODY_IN
        (sentence,) = problems(service)
        assert sentence.startswith(f"the ledger ends with event {saved} of 20")
        assert f"this host has known event {host.known()}: it was restored" in sentence
        assert sentence.endswith(
            "; restore a newer one, or stop the service and run scim-ledger recover "
            "(docs/how-to/back-up-and-restore.md)"
        )
        told = [record for record in service.records() if record["event"] == "ledger.events_lost"]
        assert 1 <= len(told) <= 2, "once a process, not once a request"
        assert all("this host has known" in record["reason"] for record in told)
        refused = host.command(
            "recover", "--declare-loss", "--reason", "the disk broke", is_good=False
        )
        assert "stop every one" in refused, "or the revoked would be let in before they are again"

    lost = host.known()
    findings = {found["what"]: found for found in _doctor(host)}
    assert findings["head file"]["status"] == "fail"
    assert "scim-ledger recover" in findings["head file"]["remedy"]
    with running_service(host.database, environment=host.environment, readiness=503) as service:
        assert asked(service, caller, revoked["token"]) == LETS_NOBODY_IN
    assert "known event" in host.command("token", "revoke", revoked["id"], is_good=False)

    is_declared(host, saved=saved, lost=lost)
    host.command("token", "revoke", revoked["id"])

    with running_service(host.database, environment=host.environment) as service:
        assert presented(service, good) == 200
        assert presented(service, revoked) == 401
        until(lambda: host.known() == host.newest(), what="the head file")
        is_told(service, caller, saved=saved, lost=lost)
    assert host.head_file.stat().st_mode & 0o777 == 0o600


def test_planted_a_service_without_a_head_file_lets_the_revoked_in(host: Host) -> None:
    host.environment = {}
    with running_service(host.database) as service:
        caller = service.api_token()
        revoked = created(service, caller)
        host.command("backup", "ledger.dump")
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        assert presented(service, revoked) == 401
        host.restore()
        with pytest.raises(AssertionError, match="the notice did not happen"):
            until(lambda: problems(service) != [], timeout_s=3, what="the notice")
        assert presented(service, revoked) == 200
    findings = {found["what"]: found for found in _doctor(host)}
    assert findings["head file"]["status"] == "warn"


def _doctor(host: Host) -> Any:
    done = subprocess.run(
        [COMMAND, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60,
        env=service_environment(host.database.app, **host.environment),
    )  # fmt: skip
    return msgspec.json.decode(done.stdout)

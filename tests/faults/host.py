"""One host that has known a ledger: its head file, its command line, and who is let in on it."""

import subprocess
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import psycopg

from domain.losses.declared import KnownEvent
from tests import postgres_programs
from tests.conftest import Database
from tests.service import COMMAND, Caller, RunningService, service_environment

TEAM: Final = str(uuid4())
LETS_NOBODY_IN: Final = dict.fromkeys(
    ("nginx", "forward", "scim", "introspect", "verify", "list", "create", "readiness"), 503
)
NEXT: Final = (
    "; if another server has it, stop this one; if none has, restore a newer one, or stop the "
    "service and run scim-ledger recover "
    "(docs/how-to/back-up-and-restore.md)"
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

    def doctor(self, what: str = "head file") -> Any:
        """What the doctor finds of it."""
        done = subprocess.run(
            [COMMAND, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60,
            env=service_environment(self.database.app, **self.environment),
        )  # fmt: skip
        (finding,) = (each for each in msgspec.json.decode(done.stdout) if each["what"] == what)
        return finding


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


def is_told(
    service: RunningService, caller: Caller, *, saved: int, lost: int, position: int, reason: str
) -> None:
    """In the trail, and to a collector that had stored what is lost."""
    query = {"kind": "ledger.loss_declared"}
    (fact,) = service.client.get("/audit", auth=caller, params=query).json()["result"]
    assert fact["note"] == f"events {saved + 1} to {lost}"
    assert (fact["reason"], fact["position"]) == (reason, position)
    assert "@" in fact["operator"]
    (told,) = service.client.get("/events", auth=caller, params=query | {"after": lost}).json()
    assert (told["id"], told["type"]) == (str(position), "ledger.loss_declared")

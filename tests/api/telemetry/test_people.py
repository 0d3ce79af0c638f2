"""Whose calls go through the service is in the ledger and nowhere else; who they are about is
nowhere: what docs/explanation/personal-data.md says.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.api.promises.test_canary import TERMINATE, database_texts
from tests.conftest import Database, new_database
from tests.docs.documents import blocks
from tests.service import RunningService, running_service, service_environment, until

DOCUMENT: Final = "docs/explanation/personal-data.md"

ADDRESS: Final = "203.0.113.77"
AGENT: Final = "agent-of-ada"
CALLER: Final = (ADDRESS, AGENT)
PERSON: Final = "lovelace"
"""A part of all that a call to SCIM says of the user that it is about."""
USER: Final = f"/scim/v2/Users/{PERSON}?filter=userName%20eq%20%22{PERSON}%22"
MINE: Final = {"X-Forwarded-For": ADDRESS, "User-Agent": AGENT}
SETTINGS: Final = {
    "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1",
    "SCIM_LEDGER_ACCESS_LOG": "true",
    "SCIM_LEDGER_LOG_LEVEL": "debug",
    "SCIM_LEDGER_RATE_PER_TOKEN": "10",
    "SCIM_LEDGER_PUBLIC_METRICS": "true",
    "SCIM_LEDGER_UPSTREAM_CONNECT_TIMEOUT_S": "1",
    "SCIM_UPSTREAM_URL": "http://127.0.0.1:9/scim",  # where nobody listens
}


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    """One that a caller has used in each way, and misused."""
    with (
        new_database(server) as database,
        running_service(database, environment=SETTINGS) as service,
    ):
        _call(service)
        yield service


def _call(service: RunningService) -> None:
    api = service.api_token()
    client = httpx.Client(base_url=service.url, headers=MINE, trust_env=False)
    with client:
        made, flooded = [
            client.post(
                "/scim-token", auth=api, json={"team_id": str(uuid4()), "name": name}
            ).json()
            for name in ("Okta", "Entra")
        ]
        for secret in (made["token"], f"{made['token'][:-1]}x", "nonsense"):
            _present(client, secret, api)
        bearer = {"Authorization": f"Bearer {flooded['token']}"}
        assert {client.get(USER, headers=bearer).status_code for _ in range(50)} == {502, 429}
        with psycopg.connect(service.database.owner, autocommit=True) as connection:
            connection.execute(TERMINATE)
        path = f"/scim-token/{made['id']}"
        until(lambda: client.delete(path, auth=api).is_success, what="the revocation")
        _present(client, made["token"], api)
        for path in (f"/scim-token/{PERSON}", f"/{PERSON}", f"/audit?source={PERSON}", USER):
            assert client.get(path, auth=api).status_code in {400, 401, 404}
        body = {"team_id": PERSON, "name": "Okta"}
        assert client.post("/scim-token", auth=api, json=body).status_code == 400
    kinds = {"scim_token.used", "scim_token.refused", "scim_token.revoked"}

    def is_told() -> bool:
        rows = service.client.get("/audit", auth=api).json()["result"]
        return kinds <= {row["kind"] for row in rows}

    until(is_told, what="the trail")


def _present(client: httpx.Client, secret: str, api: httpx.Auth) -> None:
    """At each door, for a call about a person."""
    bearer = {"Authorization": f"Bearer {secret}"}
    about: Mapping[str, Any] = {"userName": PERSON, "name": {"familyName": PERSON}}
    for method in ("GET", "PATCH"):
        client.request(method, USER, headers=bearer, json=about)
        original = {"X-Original-URI": USER, "X-Original-Method": method}
        client.get("/gateway/nginx", headers=bearer | original)
        forwarded = {"X-Forwarded-Uri": USER, "X-Forwarded-Method": method}
        client.get("/gateway/forward", headers=bearer | forwarded)
        client.request(method, f"/gateway/envoy{USER}", headers=bearer)
    presented = {"token": secret, "source": ADDRESS}
    client.post("/verify", auth=api, json=presented)
    client.post("/introspect", auth=api, data=presented)


def test_who_called_is_where_the_page_says(service: RunningService) -> None:
    views = {f"views.{name}_v1" for name in ("audit_trail", "token_sources", "usage")}
    until(
        lambda: _places_of_caller(service) == {"ledger.events", "ledger.aggregates", *views},
        what="all of it",
        tell=lambda: f"it is in {_places_of_caller(service)}",
    )


def test_who_called_is_neither_logged_nor_measured(service: RunningService) -> None:
    log = service.log.read_text()
    assert '"status": 502' in log or '"status":502' in log
    metrics = service.client.get("/metrics").text
    assert "scim_ledger_" in metrics
    for place, text in (("log", log), ("metrics", metrics)):
        assert [word for word in CALLER if word in text] == [], place


def test_whom_a_call_is_about_is_nowhere(service: RunningService) -> None:
    texts = database_texts(service.database) | {
        "log": service.log.read_text(),
        "metrics": service.client.get("/metrics").text,
    }
    assert "Users/{id}" in texts["ledger.events"]
    assert {name for name, text in texts.items() if PERSON in text} == set()


@pytest.mark.long
def test_who_called_can_be_forgotten_everywhere(server: str) -> None:
    """By the words of the page, once the service is stopped; it starts again and is used."""
    (script,) = blocks("forget", document=DOCUMENT)
    with new_database(server) as database:
        with running_service(database, environment=SETTINGS) as service:
            _call(service)
        until(lambda: not _is_connected(database), what="the end of its connections")
        environment = service_environment(
            database.app,
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            SCIM_LEDGER_OWNER_DATABASE_URL=database.owner,
            ADDRESS=ADDRESS,
            AGENT=AGENT,
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("addresses: 1\nis_done: False\n") == 1
        assert done.stdout.count("addresses: 1\nis_done: True\n") == 1
        assert "damage: -" in done.stdout
        with running_service(database, environment=SETTINGS) as service:
            assert _places_of_caller(service) == set()
            told = service.client.get(
                "/audit", auth=service.api_token(), params={"source": "100::/64"}
            ).json()["result"]
            assert {"scim_token.used", "scim_token.first_used"} <= {row["kind"] for row in told}


def _is_connected(database: Database) -> bool:
    with psycopg.connect(database.owner) as owner:
        (count,) = owner.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'scim-ledger%'"
        ).fetchone() or (0,)
    return bool(count)


def _places_of_caller(service: RunningService) -> set[str]:
    texts = database_texts(service.database)
    hexed = ADDRESS.encode().hex()
    return {name for name, text in texts.items() if any(word in text for word in (*CALLER, hexed))}

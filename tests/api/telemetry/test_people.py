"""Whose calls go through the service is in the ledger and nowhere else; who they are about is
nowhere: what docs/explanation/personal-data.md says.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.api.promises.test_canary import TERMINATE, database_texts
from tests.conftest import new_database
from tests.service import RunningService, running_service, until

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
    rows = lambda: service.client.get("/audit", auth=api).json()["result"]  # noqa: E731
    until(lambda: kinds <= {row["kind"] for row in rows()}, what="the trail")


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


def test_who_called_is_in_the_ledger(service: RunningService) -> None:
    texts = database_texts(service.database)
    for table in ("ledger.events", "views.audit_trail_v1"):
        assert [word for word in CALLER if word not in texts[table]] == [], table
    assert {name for name, text in texts.items() if AGENT in text} == {
        "ledger.events",
        "views.audit_trail_v1",
    }
    assert (
        ADDRESS in texts["views.token_sources_v1"]
        or ADDRESS.encode().hex() in texts["views.token_sources_v1"]
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

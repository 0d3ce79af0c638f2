"""Nothing keeps a secret: every error is provoked,
then every place is searched for what was sent.
"""

import asyncio
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from domain.secret import SECRET_PATTERN, SecretKind, mint
from tests.conftest import APP_ROLE, Database
from tests.service import PEPPER_KEY, RunningService

TABLES: Final = """
    SELECT table_schema, table_name FROM information_schema.tables
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
"""
TERMINATE: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND application_name = 'scim-ledger'
"""


@dataclass
class Canaries:
    """What must be nowhere, and the bodies of answers, where it must not be either."""

    secrets: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def minted(self, secret: str) -> str:
        """A secret that was shown once."""
        self.secrets.append(secret)
        return secret

    def sent(self) -> str:
        """A made-up secret that somebody sends where it does not belong."""
        return self.minted(mint(SecretKind.SCIM_LIVE, uuid4().bytes * 2).reveal())

    def heard(self, answer: httpx.Response) -> httpx.Response:
        """Keep all of an answer, headers included."""
        self.bodies.append(f"{answer.headers}\n{answer.text}")
        return answer

    def found_in(self, places: Mapping[str, str]) -> list[tuple[str, str]]:
        """Where a secret is, as it is or in a usual coding;
        without its prefix and checksum, too.
        """
        shapes = {shape for secret in self.secrets for shape in _shapes(secret)}
        return [
            (place, shape) for place, text in places.items() for shape in shapes if shape in text
        ]


def _shapes(secret: str) -> list[str]:
    core = secret.rpartition("_")[2][:42]
    return [
        core,
        core.encode().hex(),
        *(
            coded(text.encode()).decode()
            # three bytes are four characters: a part that ends with them
            for text in (core, secret[:42])
            for coded in (b64encode, urlsafe_b64encode)
        ),
    ]


@dataclass
class Scene:
    """A service in which everything went wrong once."""

    service: RunningService
    canaries: Canaries


@pytest.fixture(scope="module")
def scene(behind: RunningService) -> Scene:
    canaries = Canaries()
    _provoke(behind, canaries)
    return Scene(behind, canaries)


def test_no_secret_is_in_the_database(scene: Scene) -> None:
    places = database_texts(scene.service.database)
    assert {
        "ledger.events",
        "ledger.secrets",
        "ledger.aggregates",
        "ledger.commands",
        "views.scim_tokens_v1",
    } <= {*places}
    assert scene.canaries.found_in(places) == []


def test_no_secret_is_in_the_log(scene: Scene) -> None:
    log = scene.service.log.read_text()
    assert "scim-ledger listens on" in log
    assert scene.canaries.found_in({"log": log}) == []


def test_no_secret_is_in_the_log_of_the_database_server(scene: Scene) -> None:
    log = _server_log(scene.service.database)
    if log is None:
        pytest.skip("the database server's log is not on this machine")
    assert "terminating connection due to administrator command" in log
    assert scene.canaries.found_in({"log": log}) == []


def test_no_secret_is_in_an_answer_but_the_one_that_shows_it(scene: Scene) -> None:
    assert len(scene.canaries.bodies) > 40
    places = {str(number): body for number, body in enumerate(scene.canaries.bodies)}
    assert scene.canaries.found_in(places) == []


def test_no_secret_is_in_the_openapi_document(scene: Scene) -> None:
    places = {path: scene.service.client.get(path).text for path in ("/docs", "/docs/openapi.json")}
    assert scene.canaries.found_in(places) == []


def test_no_secret_is_in_the_command_lines_of_the_processes(scene: Scene) -> None:
    pids = [scene.service.pid, *scene.service.program_pids().values()]
    assert len(pids) == 3
    places = {str(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in pids}
    assert scene.canaries.found_in(places) == []


@pytest.mark.parametrize(
    "coding",
    [
        str.encode,
        lambda text: b"\0\xff" + text.encode() + b"\\",
        lambda text: text.encode().hex().encode(),
        lambda text: b64encode(text[10:].encode()),
        lambda text: b64encode(text.encode()),
    ],
    ids=["text", "among bytes", "hex", "base64", "base64 of all"],
)
def test_planted_a_secret_in_any_table_would_be_found(
    scene: Scene, coding: Callable[[str], bytes]
) -> None:
    secret = scene.canaries.secrets[-1]
    statement = "CREATE TABLE views.planted AS SELECT %b::bytea AS bytes"
    with psycopg.connect(scene.service.database.owner, autocommit=True) as connection:
        connection.execute(statement, [coding(secret)])
        try:
            places = database_texts(scene.service.database)
        finally:
            connection.execute("DROP TABLE views.planted")
    assert {place for place, _ in scene.canaries.found_in(places)} == {"views.planted"}


@pytest.mark.long
def test_planted_a_secret_in_a_log_or_an_answer_would_be_found(scene: Scene) -> None:
    for secret in scene.canaries.secrets:
        assert scene.canaries.found_in({"log": f'{{"detail": "could not parse {secret}"}}'})


def _provoke(service: RunningService, canaries: Canaries) -> None:
    client = service.client
    canaries.secrets.append(PEPPER_KEY)
    canaries.secrets += re.findall(SECRET_PATTERN, service.first_token.read_text())
    assert len(canaries.secrets) > 1, "an empty ledger shows its first API token"
    api = service.api_token()
    canaries.minted(api.secret)
    made = client.post(
        "/scim-token", auth=api, json={"team_id": str(uuid4()), "name": "Okta"}
    ).json()
    token = canaries.minted(made["token"])
    path = f"/scim-token/{made['id']}"
    rotated = client.post(f"{path}/rotate", auth=api, json={}).json()
    canaries.minted(rotated["token"])

    _misuse_bodies(service, canaries, api)
    _misuse_headers(service, canaries, token, api.secret)
    _misuse_paths(service, canaries, api)
    _report_leaks(service, canaries, api)

    for secret in (token, rotated["token"]):  # good, then revoked
        canaries.heard(client.get("/scim/v2/Users", headers={"Authorization": f"Bearer {secret}"}))
    canaries.heard(client.get(path, auth=api))
    canaries.heard(client.get("/scim-token", auth=api, params={"status": "all"}))
    canaries.heard(client.delete(path, auth=api))
    for secret in (token, rotated["token"]):
        canaries.heard(client.get("/scim/v2/Users", headers={"Authorization": f"Bearer {secret}"}))
    revoked = service.api_token()
    canaries.minted(revoked.secret)
    service.command(lambda ledger: ledger.revoke_api_token(revoked.id))
    canaries.heard(client.get("/scim-token", auth=revoked))

    asyncio.run(_lose_the_database(service, canaries, api.secret))
    with psycopg.connect(service.database.owner) as connection:
        connection.execute("SELECT ledger.lock_appends()")  # lock_timeout, then 503
        answer = client.post(
            "/scim-token", auth=api, json={"team_id": str(uuid4()), "name": "Okta"}
        )
        assert canaries.heard(answer).status_code == 503


def _misuse_bodies(service: RunningService, canaries: Canaries, api: httpx.Auth) -> None:
    for content in (
        '{"%s": "%s"}',
        '{"team_id": "%s", "name": 7, "%s": 1}',
        '{"name": "Okta", "team_id": ["%s", "%s"]}',
        '{"team_id": "%s", "team_id": "%s"}',
        '{"%s": NaN, "x": "%s"}',
        '{"name": "%s\\u0000%s", "team_id": "05daecaf-4365-42e8-8370-8127de5dd717"}',
        '{"name": "Okta", "team_id": "05daecaf-4365-42e8-8370-8127de5dd717", "expires_at": "%s%s"}',
        "%s %s",
        "[" * 5000 + "%s%s",
    ):
        body = (content % (canaries.sent(), canaries.sent())).encode()
        for media_type in ("application/json", "text/plain"):
            for path in ("/scim-token", f"/scim-token/{uuid4()}/rotate"):
                headers = {"Content-Type": media_type, "Idempotency-Key": canaries.sent()}
                answer = canaries.heard(
                    service.client.post(path, auth=api, content=body, headers=headers)
                )
                assert 400 <= answer.status_code < 500, answer.text


def _report_leaks(service: RunningService, canaries: Canaries, api: httpx.Auth) -> None:
    made = service.client.post(
        "/scim-token", auth=api, json={"team_id": str(uuid4()), "name": "Okta"}
    ).json()
    token, sent = canaries.minted(made["token"]), canaries.sent
    where = {"url": f"https://{sent()}@x.example/{sent()}?{sent()}#{sent()}", "source": sent()}
    bodies: list[tuple[Any, int]] = [
        ([{"token": token, **where}], 200),
        ([{"token": f"{sent()}x", **where}, {"token": sent()}], 200),
        ([{sent(): sent(), "token": [sent()]}, sent(), {"token": sent(), "url": [sent()]}], 400),
        ({"token": sent()}, 400),
        ([], 400),
    ]
    for body, status in bodies:
        answer = canaries.heard(service.client.post("/leak-report", auth=api, json=body))
        assert answer.status_code == status, answer.text


def _misuse_headers(
    service: RunningService, canaries: Canaries, token: str, api_secret: str
) -> None:
    for secret in (token, api_secret, canaries.sent()):
        for header in (
            f"Bearer Bearer {secret}",
            f"Bearer  {secret}",
            f"Bearer {secret[:-1]}",
            f"Bearer {secret[:-1]}é",
            f"Basic {secret}",
            f"{secret} Bearer",
            f"Bearer {secret},{secret}",
        ):
            for path in ("/scim-token", "/scim/v2/Users", "/nowhere"):
                headers = [(b"authorization", header.encode("latin-1"))]
                canaries.heard(service.client.get(path, headers=headers))
    twice = [("Authorization", f"Bearer {token}"), ("authorization", f"Bearer {api_secret}")]
    assert canaries.heard(service.client.get("/scim-token", headers=twice)).status_code == 400
    long = {"X-Secret": canaries.sent() * 500}
    assert canaries.heard(service.client.get("/scim-token", headers=long)).status_code == 431


def _misuse_paths(service: RunningService, canaries: Canaries, api: httpx.Auth) -> None:
    for auth in (None, api):
        for path in (
            "/%s",
            "/scim-token/%s",
            "/scim-token?access_token=%s",
            "/scim-token?team_id=%s",
            "/scim-token?limit=%s",
            "/scim-token?status=%s",
            "/scim-token?next_cursor=%s",
            "/scim-token?name=%%00%s",
            "/scim/v2/%s",
            "/docs/%s",
            "/audit?%s=1",
            "/audit?source=%s",
            "/events?%s=1",
            "/projections/%s/rebuild",
            "/readyz?%s",
        ):
            answer = service.client.get(path % canaries.sent(), auth=auth)
            assert canaries.heard(answer).status_code < 500, answer.text
        canaries.heard(service.client.request(f"X{canaries.sent()[:20]}", "/scim-token", auth=auth))


async def _lose_the_database(service: RunningService, canaries: Canaries, api_secret: str) -> None:
    """Send secrets while the service's connections are cut, again and again."""
    token = (await _create(service, api_secret)).json()["token"]
    canaries.minted(token)
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, verify=False) as client:

        async def present() -> None:
            for _ in range(15):
                headers = {"Authorization": f"Bearer {token}"}
                canaries.heard(await client.get("/scim/v2/Users", headers=headers))
                answer = await _create(service, api_secret, client)
                if answer.status_code == 201:
                    canaries.minted(answer.json()["token"])
                else:
                    canaries.heard(answer)

        def cut() -> None:
            with psycopg.connect(service.database.owner, autocommit=True) as connection:
                for _ in range(15):
                    connection.execute(TERMINATE)

        await asyncio.gather(present(), present(), present(), asyncio.to_thread(cut))


async def _create(
    service: RunningService, api_secret: str, client: httpx.AsyncClient | None = None
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {api_secret}"}
    body = {"team_id": str(uuid4()), "name": "Okta"}
    if client is not None:
        return await client.post("/scim-token", headers=headers, json=body)
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, verify=False) as own:
        return await own.post("/scim-token", headers=headers, json=body)


def database_texts(database: Database) -> dict[str, str]:
    """Every row of every table, bytes as the characters they are;
    and what the server is being asked.
    """
    texts: dict[str, str] = {}
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute("SET bytea_output = 'escape'")
        for schema, table in connection.execute(TABLES).fetchall():
            rows = connection.execute(
                sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
            )
            texts[f"{schema}.{table}"] = "\n".join(text for (text,) in rows)
        asked = connection.execute(
            "SELECT query FROM pg_stat_activity WHERE usename = %s", [APP_ROLE]
        )
        texts["queries"] = "\n".join(text for (text,) in asked)
    return texts


def _server_log(database: Database) -> str | None:
    """What the embedded server of this run has said; None when the server is another."""
    host = str(conninfo_to_dict(database.owner).get("host", ""))
    log = Path(host).parent / "postgres.log"
    return log.read_text("latin-1") if host.startswith("/") and log.exists() else None

"""The calls of the published reference, unchanged but for the host and the API token."""

import json
import os
import shutil
import subprocess
from typing import Any, Final
from uuid import UUID

import pytest
import requests

from domain.secret import parse
from tests.api.expected import FIELDS, INSTANT, SCIM_SECRET, UUID_TEXT, assert_not_found
from tests.service import Caller, RunningService

TEAM: Final = "05daecaf-4365-42e8-8370-8127de5dd717"
PAYLOAD: Final = {"team_id": TEAM, "name": "Okta provisioning"}
FETCH: Final = """
const options = {
  method: 'POST',
  headers: {'Authorization': 'Bearer %s', 'Content-Type': 'application/json'},
  body: JSON.stringify({team_id: '05daecaf-4365-42e8-8370-8127de5dd717', name: 'Okta provisioning'})
};
fetch('%s/scim-token', options)
  .then(async response => console.log(JSON.stringify({
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.json()
  })))
  .catch(error => { console.error(error); process.exit(1); });
"""


def test_curl_creates_a_token(service: RunningService, admin: Caller) -> None:
    called = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--include", "--noproxy", "*"),
            *("-X", "POST", f"{service.url}/scim-token"),
            *("-H", f"Authorization: Bearer {admin.secret}"),
            *("-H", "Content-Type: application/json"),
            *("-d", f'{{"team_id": "{TEAM}", "name": "Okta provisioning"}}'),
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    )
    head, _, body = called.stdout.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines()
    assert status.split()[1] == "201"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    _assert_created(json.loads(body), headers, created_by=admin.user_id)


def test_javascript_fetch_creates_a_token(service: RunningService, admin: Caller) -> None:
    node = shutil.which("node")
    if node is None:
        assert "CI" not in os.environ, (
            "node is missing: the documented JavaScript call was not tried"
        )
        pytest.skip("node is missing: the documented JavaScript call was not tried")
    called = subprocess.run(
        [node, "-e", FETCH % (admin.secret, service.url)],
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert called.returncode == 0, called.stderr
    answer = json.loads(called.stdout)
    assert answer["status"] == 201
    _assert_created(answer["body"], answer["headers"], created_by=admin.user_id)


def test_python_requests_creates_a_token(service: RunningService, admin: Caller) -> None:
    url = f"{service.url}/scim-token"
    headers = {"Authorization": f"Bearer {admin.secret}", "Content-Type": "application/json"}
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(url, headers=headers, params={}, json=PAYLOAD, timeout=20)
        assert response.status_code == 201
        given = {name.lower(): value for name, value in response.headers.items()}
        _assert_created(response.json(), given, created_by=admin.user_id)


def test_the_platform_client_lists_reads_and_deletes(service: RunningService, team: UUID) -> None:
    caller = service.api_token(teams=[team])
    created = service.client.post(
        "/scim-token", auth=caller, json={"team_id": str(team), "name": "Okta provisioning"}
    ).json()
    del created["token"]

    # Its first page is asked with an empty cursor.
    query = {"team_id": str(team), "limit": "100", "next_cursor": ""}
    listed = service.client.get("/scim-token", auth=caller, params=query)
    assert listed.status_code == 200
    assert listed.headers["content-type"] == "application/json"
    assert list(listed.json()) == ["limit", "next_cursor", "result"]
    assert listed.json() == {"limit": 100, "next_cursor": None, "result": [created]}
    assert list(listed.json()["result"][0]) == FIELDS

    read = service.client.get(f"/scim-token/{created['id']}", auth=caller)
    assert read.status_code == 200
    assert read.headers["content-type"] == "application/json"
    assert list(read.json()) == FIELDS
    assert read.json() == created

    deleted = service.client.delete(f"/scim-token/{created['id']}", auth=caller)
    assert deleted.status_code == 200
    assert deleted.headers["content-type"] == "application/json"
    assert deleted.json() == {"id": created["id"]}

    assert_not_found(service.client.get(f"/scim-token/{created['id']}", auth=caller))
    emptied = service.client.get("/scim-token", auth=caller, params=query)
    assert emptied.json() == {"limit": 100, "next_cursor": None, "result": []}


def _assert_created(body: dict[str, Any], headers: dict[str, str], *, created_by: UUID) -> None:
    """Field by field, format by format."""
    assert list(body) == [*FIELDS, "token"]
    for name in ("id", "team_id", "created_by"):
        assert UUID_TEXT.fullmatch(body[name]), name
    for name in ("created_at", "updated_at"):
        assert INSTANT.fullmatch(body[name]), name
    assert body["team_id"] == TEAM
    assert body["name"] == "Okta provisioning"
    assert body["created_by"] == str(created_by)
    assert body["last_used_at"] is None
    assert body["updated_at"] == body["created_at"]
    assert SCIM_SECRET.fullmatch(body["token"])
    assert parse(body["token"]).kind == "scim_live_", "the checksum is right"
    assert headers["content-type"] == "application/json"
    assert headers["location"] == f"/scim-token/{body['id']}"
    assert headers["cache-control"] == "no-store"
    assert UUID_TEXT.fullmatch(headers["x-request-id"])

"""A2, A7, A8 at the whole service: clients that frame, offer and write blanks as real ones do."""

import json
import re
import socket
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from tests.api.doors.scim.proxied import Proxied
from tests.api.doors.scim.upstream import RecordingUpstream
from tests.gateways.programs import require
from tests.service import Caller, RunningService


@dataclass(frozen=True)
class Scene:
    """A service in front of an upstream, an API token, and a SCIM token of a team."""

    service: RunningService
    upstream: RecordingUpstream
    caller: Caller
    token: str
    team_id: UUID

    def exchange(self, *lines: str, body: str = "", then: str = "") -> bytes:
        """All that the service answers to a request and what is sent after its answer began."""
        address = urlsplit(self.service.url)
        with closing(
            socket.create_connection((address.hostname, address.port), timeout=10)
        ) as client:
            client.sendall("\r\n".join([*lines, "Host: ledger", "", body]).encode("latin-1"))
            received = client.recv(65536)
            if then:
                client.sendall(then.encode("latin-1"))
            while piece := client.recv(65536):
                received += piece
        return received


@pytest.fixture
def scene(proxied: Proxied) -> Scene:
    caller = proxied.service.api_token()
    return Scene(proxied.service, proxied.upstream, caller, proxied.token, proxied.team_id)


@pytest.mark.gateway
def test_a_jdk_client_is_served_as_it_comes(scene: Scene) -> None:
    """A2: it offers h2c with each request, bodies of a known length and chunked ones."""
    require({"java": "apt-get install openjdk-17-jdk-headless"})
    program = Path(__file__).with_name("Offers.java")
    done = subprocess.run(
        ["java", program, scene.service.url, scene.caller.secret, scene.token, str(scene.team_id)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [line.split(" ", 2) for line in done.stdout.splitlines()]

    assert [status for status, *_ in answers] == [
        "201",
        "200",
        "200",
        "200",
        "200",
        "200",
        "200",
        "200",
    ]
    assert {version for _, version, _ in answers} == {"HTTP_1_1"}
    documents: list[Any] = [json.loads(body) if body else None for *_, body in answers]
    assert documents[0]["name"] == "from Java"
    assert documents[1]["team_id"] == str(scene.team_id)
    assert documents[2]["active"] is True
    assert documents[4:] == [{"length": 0}, {"length": 70_000}, {"length": 70_000}, {"length": 0}]
    assert not any("upgrade" in seen.names for seen in scene.upstream.requests)


@pytest.mark.parametrize("door", ["/gateway/nginx", "/gateway/forward", "/gateway/envoy/Users"])
@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_check_with_a_length_and_no_body_ends_the_connection_and_says_so(
    door: str, is_good: bool, expect: tuple[str, ...], scene: Scene
) -> None:
    """A7: as gateways that copy the client's Content-Length send it."""
    token = scene.token if is_good else "nonsense"
    lines = (
        f"GET {door} HTTP/1.1",
        f"Authorization: Bearer {token}",
        "Content-Length: 77",
        *expect,
    )
    answer = scene.exchange(*lines, then="GET /healthz HTTP/1.1\r\nHost: ledger\r\n\r\n")

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200" if is_good else b"401"]
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize("blanks", ["", " ", "\t", " \t  "])
@pytest.mark.parametrize("spaces", [" ", "   "])
def test_blanks_around_the_token_are_no_part_of_it(blanks: str, spaces: str, scene: Scene) -> None:
    """A8, at a door and at the API."""
    for target, token in (("/gateway/nginx", scene.token), ("/scim-token", scene.caller.secret)):
        answer = scene.exchange(
            f"GET {target} HTTP/1.1",
            f"Authorization:{blanks}Bearer{spaces}{token}{blanks}",
            "Connection: close",
        )
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_an_idempotency_key_is_the_same_with_blanks(scene: Scene) -> None:
    """A8: one command, one effect."""
    key = str(uuid4())
    body = json.dumps({"team_id": str(uuid4()), "name": "once"})
    statuses = [
        scene.exchange(
            "POST /scim-token HTTP/1.1",
            f"Authorization: Bearer {scene.caller.secret}",
            "Content-Type: application/json\t",
            f"Content-Length: {len(body)} ",
            f"Idempotency-Key:{before}{key}{after}",
            "Connection: close",
            body=body,
        )[9:12]
        for before, after in (("", ""), (" ", " "), ("\t", "\t \t"))
    ]

    assert statuses == [b"201", b"409", b"409"]

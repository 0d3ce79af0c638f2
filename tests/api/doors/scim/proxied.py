"""A real SCIM service behind `/scim/v2`, for the tests of the way to it."""

import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from api.doors.scim_messages import ERROR
from tests.api.doors.scim.upstream import RecordingUpstream
from tests.service import RunningService


@dataclass(frozen=True)
class Proxied:
    """A service in front of an upstream, and a token to get through."""

    service: RunningService
    upstream: RecordingUpstream
    token: str
    token_id: UUID
    team_id: UUID

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return self.service.client.request(method, f"/scim/v2/{path}", headers=headers, **options)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.service.url).netloc, timeout=10)

    def worker_rss(self) -> int:
        """Bytes of memory that the one worker holds."""
        status = Path(f"/proc/{self.service.program_pids()['worker-1']}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def uses(self) -> int:
        """How many uses of the token are in the ledger."""
        ((uses,),) = self.service.query(
            "SELECT uses FROM ledger.stream_heads WHERE originator_id = %s", self.token_id
        )
        return int(uses)


def assert_scim_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    body = answer.json()
    assert body == {"schemas": [ERROR], "status": str(status), "detail": body["detail"]}
    assert "127.0.0.1" not in answer.text

"""The interactive documentation, in the browser that a reader would open it in."""

import json
import re
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pytest

from tests.gateways.programs import require
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

METHODS: Final = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPERATION: Final = re.compile(r'<div class="opblock [^"]*" id="([^"]+)"')
"""One for each operation that Swagger UI shows."""

COMPLAINT: Final = re.compile(r"CONSOLE\S*\] .*")
"""What a script logs, and what the browser refuses to load or run."""

ASK: Final = re.compile(r"Example Value\s+Schema\s+(\{.*?\})\s+Responses")
"""In the text of an operation: the request that is there to be tried."""


class Page(NamedTuple):
    """A document as it stands when its scripts have run, and what they complained about."""

    html: str
    complaints: list[str]

    @property
    def text(self) -> str:
        """What is to be read, words apart by one space."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.html)).split())


Browse: TypeAlias = Callable[[str], Page]


@pytest.fixture(scope="module")
def browse(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Open a path of the service."""
    require({"chromium": "apt-get install chromium"})
    profile: Path = tmp_path_factory.mktemp("chromium")

    def open_(path: str) -> Page:
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"),
            *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"),
            service.url + path,
        ]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return Page(shown.stdout, COMPLAINT.findall(shown.stderr))

    return open_


def test_every_operation_is_shown_and_nothing_is_refused(
    service: RunningService, browse: Browse
) -> None:
    page = browse("/docs")
    paths = service.client.get("/docs/openapi.json").json()["paths"]
    documented = [
        (path, method) for path, item in paths.items() for method in item.keys() & METHODS
    ]
    shown = OPERATION.findall(page.html)
    assert len(shown) == len(set(shown)) == len(documented) > 10
    assert all(f'data-path="{path}"' in page.html for path, _ in documented)
    assert "Authorize" in page.text
    assert page.complaints == []


def test_the_request_that_is_there_to_be_tried_is_accepted(
    service: RunningService, admin: Caller, browse: Browse
) -> None:
    found = ASK.search(browse("/docs#/SCIM%20tokens/createScimToken").text)
    assert found is not None
    answer = service.client.post("/scim-token", auth=admin, json=json.loads(found[1]))
    assert answer.status_code == 201

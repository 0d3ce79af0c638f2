"""D3: what a browser is shown, and a page for every type of problem that anybody is told."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from litestar.testing import TestClient

import api
from api.app import build
from api.http.problem_types import PROBLEM_TYPES
from api.http.problems import problem
from api.server.error_response import Refusal
from api.settings import Settings
from tests.service import PEPPER_KEY, Caller, RunningService
from tests.turns import by_turns

HTML: Final = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
TYPE: Final = re.compile(r"/problems/([a-z-]+)")


def test_the_root_says_what_this_is_and_where_its_documentation_is(service: RunningService) -> None:
    page = service.client.get("/", headers=HTML)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "ledger of SCIM bearer tokens" in page.text
    assert 'href="/docs"' in page.text
    assert service.client.get("/docs").status_code == 200

    said = service.client.get("/")
    assert said.headers["content-type"] == "application/json"
    assert said.json()["documentation"] == "/docs"
    assert page.headers["vary"] == said.headers["vary"] == "Accept"


PAGES: Final = ("/", "/favicon.ico", "/robots.txt", *(kind.uri for kind in PROBLEM_TYPES.values()))


@pytest.fixture(scope="module")
def without_database() -> Iterator["TestClient[Any]"]:
    with TestClient(
        build(Settings(database_url="host=/nowhere dbname=none", pepper=PEPPER_KEY))
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "accept"),
    by_turns(product(PAGES, ["*/*", HTML["Accept"], "text/html;q=x", ",;,\xe9", ""]), one_of=7),
)
def test_a_page_needs_no_database_and_loads_nothing(
    without_database: "TestClient[Any]", path: str, accept: str
) -> None:
    headers = {b"Accept": accept.encode("latin-1")}
    page, head = (
        without_database.request(method, path, headers=headers) for method in ("GET", "HEAD")
    )
    assert page.status_code in {200, 204}
    assert re.search(r"<(?:script|link|img|iframe|style)|https?:", page.text) is None
    assert (head.status_code, head.content) == (page.status_code, b"")
    assert head.headers.get("content-length") == page.headers.get("content-length")


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
def test_each_type_of_problem_has_a_page_that_says_what_to_do(
    service: RunningService, slug: str
) -> None:
    kind = PROBLEM_TYPES[slug]
    said = service.client.get(kind.uri)
    assert said.status_code == 200
    assert said.json() == {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.remedy,
    }
    page = service.client.get(kind.uri, headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert kind.title in page.text


def test_no_problem_is_told_that_has_no_page() -> None:
    """A type comes from the table and from nowhere else:
    what is written out in the code is in it, too.
    """
    sources = [path.read_text() for path in Path(api.__file__).parent.rglob("*.py")]
    written = {slug for text in sources for slug in TYPE.findall(text)}
    assert written <= PROBLEM_TYPES.keys()
    statuses = {kind.status for kind in PROBLEM_TYPES.values()}
    for status in statuses - {414, 431, 501}:
        assert problem(status).type.removeprefix("/problems/") in PROBLEM_TYPES
    for status in (400, 414, 431, 501, 503):
        assert TYPE.findall(Refusal(status, "x").to_bytes(()).decode())[0] in PROBLEM_TYPES


def test_no_page_is_for_a_problem_that_nobody_is_told() -> None:
    paths = (
        path for path in Path(api.__file__).parent.rglob("*.py") if path.name != "problem_types.py"
    )
    sources = "".join(path.read_text() for path in paths)
    assert [slug for slug in PROBLEM_TYPES if f'"{slug}"' not in sources] == []


def test_a_browser_that_asks_for_more_is_not_told_to_authenticate(service: RunningService) -> None:
    assert service.client.get("/favicon.ico").status_code == 204
    robots = service.client.get("/robots.txt")
    assert (robots.status_code, robots.text) == (200, "User-agent: *\nDisallow: /\n")
    assert robots.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/problems/nothing", "/problems", "/problems/validation/x"])
def test_a_type_that_does_not_exist_has_no_page(service: RunningService, path: str) -> None:
    assert service.client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["//", "///", "//scim-token", "/favicon.ico/", "/robots.txt/x", "/problems2"]
)
def test_what_only_looks_like_a_page_needs_a_token(service: RunningService, path: str) -> None:
    assert service.client.get(service.url + path).status_code == 401


def test_a_problem_leads_to_its_page(service: RunningService, admin: Caller) -> None:
    for path, caller in (
        ("/scim-token?limit=0", admin),
        ("/nowhere", admin),
        ("/scim-token", None),
    ):
        type_ = service.client.get(path, auth=caller).json()["type"]
        assert service.client.get(type_).status_code == 200

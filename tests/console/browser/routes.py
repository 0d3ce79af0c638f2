"""The console's routes, and which of them a test goes to: what it says, and what its windows did.

A test says so by `visits`, and fails where no window of its own asked for the route.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from litestar.response import Redirect
from playwright.sync_api import Download, Page, Request

from api.console.routes import PAGES

F = TypeVar("F", bound=Callable[..., Any])


class Route(NamedTuple):
    """A method, and a path with the names of its parameters."""

    method: str
    path: str


ROUTES: Final = frozenset(
    Route(str(method), path)
    for handler in PAGES
    for method in handler.http_methods
    for path in handler.paths
)
LEADS_ON: Final = frozenset(
    Route(str(method), path)
    for handler in PAGES
    if handler.parsed_fn_signature.return_type.annotation is Redirect
    for method in handler.http_methods - {"POST"}
    for path in handler.paths
)
"""Where a form was sent, asked for again: nothing is there but the way on."""
SHOWN: Final = (
    frozenset(
        Route(str(method), path)
        for handler in PAGES
        if handler.status_code == HTTPStatus.OK
        for method in handler.http_methods
        for path in handler.paths
    )
    - LEADS_ON
    - {Route("GET", "/console"), Route("GET", "/console/audit/export")}
)
"""What is answered with a page: neither by the way to another one nor by a file."""
_PARTS: Final = {"uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "str": "[^/]+"}
_PATTERNS: Final = {
    path: re.compile(re.sub(r"{\w+:(\w+)}", lambda part: _PARTS[part[1]], path))
    for path in {route.path for route in ROUTES}
}


def route(method: str, url: str) -> Route | None:
    """The route of ours that a request is for, None for any other."""
    path = urlsplit(url).path
    found = (each for each, pattern in _PATTERNS.items() if pattern.fullmatch(path))
    return next((Route(method, each) for each in found if Route(method, each) in ROUTES), None)


def visits(*routes: str) -> Callable[[F], F]:
    """What a test goes to, each as "GET /path", with parameters as the console names them."""
    named = {Route(*each.split(" ")) for each in routes}
    assert named <= ROUTES, named - ROUTES

    def say(test: F) -> F:
        test.__dict__["visits"] = named
        return test

    return say


def said_by(test: Callable[..., Any]) -> set[Route]:
    """What a test says that it goes to."""
    found: set[Route] = test.__dict__.get("visits", set())
    return found


def said_by_all(modules: Iterable[ModuleType]) -> set[Route]:
    """What the tests of the modules say that they go to."""
    tests = (
        each
        for module in modules
        for name, each in vars(module).items()
        if name.startswith("test_") and isinstance(each, FunctionType)
    )
    return set().union(*(said_by(test) for test in tests))


def assert_visited(test: Callable[..., Any], seen: set[Route | None]) -> None:
    """That a test went to all that it says it goes to."""
    missed = said_by(test) - seen
    assert not missed, f"{test.__name__} says that it goes to {sorted(missed)}, and does not"


@contextmanager
def watched(page: Page, seen: set[Route | None]) -> Iterator[None]:
    """Adds what a window asks for to `seen`: pages, forms, and files that it takes along."""

    def asked(request: Request) -> None:
        if request.is_navigation_request():
            seen.add(route(request.method, request.url))

    def taken(download: Download) -> None:
        seen.add(route("GET", download.url))

    page.on("request", asked)
    page.on("download", taken)
    yield
    page.remove_listener("request", asked)
    page.remove_listener("download", taken)

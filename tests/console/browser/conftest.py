"""Windows on the console, in Debian's Chromium, driven by Playwright."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import Browser, Page

from tests.console.browser.chromium import sign_in, started
from tests.console.browser.routes import Route, assert_visited, watched
from tests.service import Caller, RunningService

Open: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser; each test has a profile of its own in it.

    Not for longer than a module: its driver keeps a loop in this thread, and other tests start one.
    """
    with started() as browser:
        yield browser


@pytest.fixture
def visited(request: pytest.FixtureRequest) -> Iterator[set[Route | None]]:
    """What the test's windows ask for; all that it says it goes to is among that."""
    seen: set[Route | None] = set()
    yield seen
    assert_visited(request.function, seen)


@pytest.fixture
def window(chromium: Browser, service: RunningService, visited: set[Route | None]) -> Open:
    """Open a window on the service, as a context manager.

    Whatever its pages complain about fails the test: a script that breaks, or something that the
    policy refuses.
    """

    @contextmanager
    def open_(
        *, width: int = 1280, scheme: str = "light", has_script: bool = True
    ) -> Iterator[Page]:
        context = chromium.new_context(
            base_url=service.url,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=has_script,
            reduced_motion="reduce",
        )
        complaints: list[str] = []
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and "status of 4" not in said.text
                else None
            ),
        )
        page.set_default_timeout(10_000)
        with watched(page, visited):
            yield page
        context.close()
        assert complaints == []

    return open_


@pytest.fixture
def signed_in(window: Open, admin: Caller) -> Open:
    """The same, by somebody who may do everything."""

    @contextmanager
    def open_(**how: Any) -> Iterator[Page]:
        with window(**how) as page:
            sign_in(page, admin.secret)
            yield page

    return open_

"""Debian's Chromium, and when it paints a page first."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from tests.gateways.programs import SEARCH_PATH, require

_PAINTED = """() => new Promise((found) => {
    const name = "first-contentful-paint";
    new PerformanceObserver((list) => {
        for (const each of list.getEntriesByName(name)) found(each.startTime);
    }).observe({ type: "paint", buffered: true });
})"""


@contextmanager
def started(*arguments: str) -> Iterator[Browser]:
    """The machine's browser, never one that is fetched. arguments: more of its command line."""
    require({"chromium": "apt-get install chromium"})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium", path=SEARCH_PATH),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *arguments],
        )
        yield browser
        browser.close()


def sign_in(page: Page, secret: str) -> None:
    """With an API token that may see the list of tokens."""
    page.goto("/console/sign-in")
    page.fill("#token", secret)
    page.click("button")
    page.wait_for_url("**/console/tokens")


def first_paint_ms(page: Page, path: str) -> float:
    """From the request of a page until something of it can be seen (First Contentful Paint)."""
    page.goto(path)
    took: float = page.evaluate(_PAINTED)
    return took

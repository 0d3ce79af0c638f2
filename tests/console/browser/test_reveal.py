"""The page that shows a secret, once: afterwards it is nowhere in the browser or the service."""

from contextlib import suppress
from uuid import uuid4

import pytest
from playwright.sync_api import Dialog, Error, Page

from tests.console.browser.conftest import Open
from tests.console.browsing import secrets_in
from tests.service import RunningService

pytestmark = pytest.mark.browser

KEPT = """async () => {
    const kept = [document.documentElement.outerHTML, location.href, document.referrer, name];
    for (const storage of [localStorage, sessionStorage]) kept.push(JSON.stringify(storage));
    kept.push(JSON.stringify(history.state), document.cookie);
    for (const base of await indexedDB.databases()) kept.push(base.name);
    for (const key of await caches.keys()) kept.push(key);
    return kept.join("\\n");
}"""
"""All that a script of this origin can find."""


def reveal(page: Page) -> str:
    page.goto("/console/tokens/new")
    page.fill("#name", "Acme, Okta")
    page.fill("#team_id", str(uuid4()))
    page.click("main form button")
    page.wait_for_selector("[data-reveal]")
    (secret,) = secrets_in(page.content())
    return secret


def content_of(page: Page) -> str:
    """What the page shows once it has settled."""
    for _ in range(50):
        page.wait_for_timeout(100)
        with suppress(Error):
            return page.content()
    pytest.fail("the page does not settle")


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "no script"])
def test_afterwards_it_is_nowhere(
    service: RunningService, signed_in: Open, has_script: bool
) -> None:
    with signed_in(has_script=has_script) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        secret = reveal(page)
        assert secret not in page.url
        page.check("[data-stored]")
        page.click("[data-reveal] form button")
        page.wait_for_url("**/console/tokens/*-*")
        assert secret not in page.evaluate(KEPT)
        for turn in (page.go_back, page.go_back, page.go_forward):
            with suppress(Error):  # what a form was answered with, the browser does not have again
                turn()
            assert secret not in content_of(page)
        page.goto("/console/tokens")
        assert secret not in page.evaluate(KEPT)
    for line in (service.log.read_text(), service.output.read_text()):
        assert secret not in line


def test_a_reload_shows_nothing(signed_in: Open) -> None:
    with signed_in() as page:
        page.on("dialog", lambda dialog: dialog.accept())
        secret = reveal(page)
        page.reload()
        page.wait_for_load_state()
        assert secret not in page.content()
        assert not secrets_in(page.content())
        assert page.inner_text("h1") in {"Shown already", "New token"}


def test_leaving_warns_until_it_is_stored(signed_in: Open) -> None:
    with signed_in() as page:
        asked: list[str] = []

        def stay(dialog: Dialog) -> None:
            asked.append(dialog.type)
            dialog.dismiss()

        page.on("dialog", stay)
        reveal(page)
        page.click("h1")  # a browser asks only whoever did something on the page
        page.evaluate("() => { location.href = '/console/tokens' }")
        page.wait_for_timeout(300)
        assert asked == ["beforeunload"]
        assert page.locator("[data-reveal]").count() == 1
        page.check("[data-stored]")
        page.click("[data-reveal] form button")
        page.wait_for_url("**/console/tokens/*-*")
        assert asked == ["beforeunload"]


def test_without_the_script_the_way_on_asks_for_it(signed_in: Open) -> None:
    with signed_in(has_script=False) as page:
        secret = reveal(page)
        assert page.locator("nav").count() == 0
        page.click("[data-reveal] form button")
        assert secret in page.content(), "the browser asks for the mark first"
        assert page.locator("[data-copy]:visible").count() == 0


def test_the_secret_is_copied(signed_in: Open) -> None:
    with signed_in() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        secret = reveal(page)
        page.click("[data-copy=secret]")
        page.wait_for_selector("text=Copied")
        assert page.evaluate("() => navigator.clipboard.readText()") == secret
        page.check("[data-stored]")

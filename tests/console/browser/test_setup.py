"""The setup page in a browser: by keyboard, with the script and without it, and nothing stays."""

from contextlib import suppress
from uuid import uuid4

import pytest
from playwright.sync_api import Error, Page

from tests.console.browser.conftest import Open
from tests.console.browser.routes import visits
from tests.console.browser.test_keyboard import press, tab_to
from tests.console.browser.test_reveal import KEPT
from tests.console.browsing import secrets_in
from tests.console.test_setup import lets_in, link_of
from tests.console.test_tokens import create
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser


def whole(page: Page) -> str:
    """The document, also where it is just loading itself again."""
    try:
        return page.content()
    except Error:
        page.wait_for_load_state()
        return page.content()


@visits("GET /console/setup/{token:str}/{code:str}", "POST /console/setup/{token:str}/{code:str}")
@pytest.mark.parametrize("has_script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("width", [1280, 320])
def test_the_contact_walks_by_keyboard_and_the_secret_is_nowhere_afterwards(
    service: RunningService, window: Open, admin: Caller, has_script: bool, width: int
) -> None:
    token = create(service, admin, uuid4(), "<b>Acme</b>")
    link = link_of(service, admin, token["id"])
    with window(has_script=has_script, width=width) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(link)
        assert page.inner_text("h1") == "Connect <b>Acme</b>"
        press(page, "form button")
        page.wait_for_selector("[data-reveal]")
        (secret,) = secrets_in(page.content())
        tab_to(page, "#secret")
        press(page, "[data-stored]", "Space")
        press(page, "[data-reveal] form button")
        page.wait_for_selector("[data-waits]")
        for turn in (page.go_back, page.go_forward):
            with suppress(Error):  # what a form was answered with, the browser does not have again
                turn()
            assert secret not in whole(page)
        page.goto(link)
        assert secret not in page.evaluate(KEPT)
        assert lets_in(service, secret)
        if has_script:  # it looks again by itself
            page.wait_for_selector("main .good", timeout=15_000)
        else:
            press(page, "main a.button")
        assert "Yes, it is connected." in page.inner_text("main")
    assert secret not in service.log.read_text()

"""Every page is walked by the keyboard alone, with the script and without it."""

from uuid import uuid4

import pytest
from playwright.sync_api import Page

from tests.console.browser.conftest import Open
from tests.console.browsing import secrets_in
from tests.service import Caller

pytestmark = pytest.mark.browser

STOPS_MAX = 90


def is_at(page: Page, selector: str) -> bool:
    return bool(page.evaluate("s => document.activeElement?.matches(s) ?? false", selector))


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, which can be seen at every stop."""
    for _ in range(STOPS_MAX):
        if is_at(page, selector):
            return
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "() => { const at = document.activeElement;"
            " return at === document.body ? 'body' : getComputedStyle(at).outlineStyle }"
        )
        assert outline != "none", page.evaluate("() => document.activeElement.outerHTML")
    pytest.fail(f"{selector} is not reached by Tab at {page.url}")


def press(page: Page, selector: str, key: str = "Enter") -> None:
    """Go to an element and press it, on the page."""
    tab_to(page, selector)
    page.keyboard.press(key)


def follow(page: Page, selector: str) -> None:
    """Go to an element and press it; what that leads to has been loaded afterwards."""
    tab_to(page, selector)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def type_into(page: Page, selector: str, text: str) -> None:
    tab_to(page, selector)
    page.keyboard.type(text)


def confirm(page: Page, command: str, reason: str) -> None:
    """Open a dialog of the token's page, say why, and press its button."""
    press(page, f"a[href='#{command}']")
    page.wait_for_selector(f"#{command}", state="visible")
    type_into(page, f"#{command}-reason", reason)
    follow(page, f"#{command} button")


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("width", [1280, 320])
def test_a_token_s_whole_life(window: Open, admin: Caller, has_script: bool, width: int) -> None:
    with window(has_script=has_script, width=width) as page:
        page.goto("/console")
        type_into(page, "#token", admin.secret)
        follow(page, "form button")
        page.wait_for_url("**/console/tokens")

        follow(page, "a[href='/console/tokens/new']")
        page.wait_for_url("**/console/tokens/new")
        type_into(page, "#name", "By keyboard")
        type_into(page, "#team_id", str(uuid4()))
        follow(page, "main form button")
        page.wait_for_selector("[data-reveal]")
        (secret,) = secrets_in(page.content())
        tab_to(page, "#secret")
        press(page, "[data-stored]", "Space")
        follow(page, "[data-reveal] form button")
        page.wait_for_url("**/console/tokens/*-*")
        assert secret not in page.content()

        confirm(page, "suspend", "by keyboard")
        page.wait_for_selector("main .suspended")
        confirm(page, "resume", "by keyboard, too")
        page.wait_for_selector("main .active")
        confirm(page, "rotate", "a new year")
        page.wait_for_selector("[data-reveal]")
        press(page, "[data-stored]", "Space")
        follow(page, "[data-reveal] form button")
        page.wait_for_selector("main .rotating")
        confirm(page, "cancel", "the wrong year")
        page.wait_for_selector("main .active")
        confirm(page, "revoke", "enough")
        page.wait_for_selector("main .revoked")
        assert "because “enough”" in page.inner_text("main")

        follow(page, ".who button")
        page.wait_for_url("**/console/sign-in")


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "no script"])
def test_many_are_chosen_shown_and_revoked(signed_in: Open, has_script: bool) -> None:
    with signed_in(has_script=has_script) as page:
        team = uuid4()
        for name in ("one", "two"):
            page.goto("/console/tokens/new")
            page.fill("#name", name)
            page.fill("#team_id", str(team))
            page.click("main form button")
            page.check("[data-stored]")
            page.click("[data-reveal] form button")
        page.goto("/console/tokens")
        type_into(page, "#team", str(team))
        follow(page, ".filters button")
        for number in (1, 2):
            press(page, f"tbody tr:nth-child({number}) input", "Space")
        follow(page, ".foot button")
        assert page.inner_text("h1") == "2 tokens would be revoked"
        type_into(page, "#reason", "by keyboard")
        follow(page, "main form button")
        assert page.inner_text("h1") == "2 tokens revoked"


def test_a_dialog_closes_by_escape_and_gives_the_focus_back(signed_in: Open) -> None:
    with signed_in() as page:
        page.goto("/console/tokens/new")
        page.fill("#name", "Closing")
        page.fill("#team_id", str(uuid4()))
        page.click("main form button")
        page.check("[data-stored]")
        page.click("[data-reveal] form button")
        press(page, "a[href='#revoke']")
        page.wait_for_selector("#revoke", state="visible")
        page.keyboard.press("Escape")
        page.wait_for_selector("#revoke", state="hidden")
        assert is_at(page, "a[href='#revoke']")


def test_the_content_is_one_key_away(signed_in: Open) -> None:
    with signed_in() as page:
        page.reload()
        page.keyboard.press("Tab")
        assert is_at(page, ".skip")
        page.keyboard.press("Enter")
        assert is_at(page, "main")


@pytest.mark.parametrize(
    ("has_script", "view"),
    [(True, "usage"), (False, "token_sources")],
    ids=["script", "no script"],
)
def test_the_service_is_examined_and_a_view_rebuilt(
    signed_in: Open, has_script: bool, view: str
) -> None:
    with signed_in(has_script=has_script) as page:
        follow(page, "nav a[href='/console/system']")
        follow(page, "main .head a")
        assert "What the doctor finds" in page.content()
        follow(page, f"[aria-label='Rebuild {view}']")
        assert "The rebuild is asked for." in page.inner_text("main .good")

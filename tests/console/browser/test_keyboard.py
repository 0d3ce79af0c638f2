"""Every page is walked by the keyboard alone, with the script and without it."""

from uuid import uuid4

import pytest
from playwright.sync_api import Page

from api.console.pages.system import COMMANDS
from tests.console.browser.conftest import Open
from tests.console.browser.routes import visits
from tests.console.browsing import secrets_in
from tests.console.test_system import failed, stopped
from tests.console.test_tokens import create
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

STOPS_MAX = 90
ONE = "/console/tokens/{token_id:uuid}"
WITH_AND_WITHOUT = pytest.mark.parametrize("has_script", [True, False], ids=["script", "no script"])


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


def ask(page: Page, command: str) -> None:
    """Open a dialog of the token's page."""
    press(page, f"a[href='#{command}']")
    page.wait_for_selector(f"#{command}", state="visible")


def confirm(page: Page, command: str, reason: str) -> None:
    """Open a dialog of the token's page, say why, and press its button."""
    ask(page, command)
    type_into(page, f"#{command}-reason", reason)
    follow(page, f"#{command} button")


def store(page: Page) -> str:
    """What is shown once, marked as stored and left behind."""
    page.wait_for_selector("[data-reveal]")
    shown = page.inner_text("[data-secret]")
    tab_to(page, "[data-secret]")
    press(page, "[data-stored]", "Space")
    follow(page, "[data-reveal] form button")
    assert shown not in page.content()
    return shown


@visits(
    *("GET /console", "GET /console/sign-in", "POST /console/sign-in", "POST /console/sign-out"),
    *("GET /console/tokens", "GET /console/tokens/new", "POST /console/tokens/new", f"GET {ONE}"),
    *(f"POST {ONE}/{command}" for command in ("suspend", "resume", "rotate", "cancel", "revoke")),
)
@WITH_AND_WITHOUT
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
        assert secrets_in(store(page))
        page.wait_for_url("**/console/tokens/*-*")

        confirm(page, "suspend", "by keyboard")
        page.wait_for_selector("main .suspended")
        confirm(page, "resume", "by keyboard, too")
        page.wait_for_selector("main .active")
        confirm(page, "rotate", "a new year")
        store(page)
        page.wait_for_selector("main .rotating")
        confirm(page, "cancel", "the wrong year")
        page.wait_for_selector("main .active")
        confirm(page, "revoke", "enough")
        page.wait_for_selector("main .revoked")
        assert "because “enough”" in page.inner_text("main")

        follow(page, ".who button")
        page.wait_for_url("**/console/sign-in")


@visits(
    *(f"POST {ONE}/{command}" for command in ("rotate", "complete", "change")),
    *(f"POST {ONE}/{command}" for command in ("setup-link", "end-setup-link")),
)
@WITH_AND_WITHOUT
@pytest.mark.parametrize("width", [1280, 320])
def test_it_is_changed_handed_over_and_its_rotation_finished(
    service: RunningService, signed_in: Open, admin: Caller, has_script: bool, width: int
) -> None:
    token = create(service, admin, uuid4(), "By keyboard")
    with signed_in(has_script=has_script, width=width) as page:
        page.goto(f"/console/tokens/{token['id']}")
        ask(page, "change")
        tab_to(page, "#change-name")
        page.keyboard.press("End")
        page.keyboard.type(", too")
        follow(page, "#change button")
        assert page.inner_text("h1") == "By keyboard, too"

        ask(page, "setup-link")
        type_into(page, "#setup-link-reason", "Enter makes the link")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert "/console/setup/" in store(page)
        ask(page, "setup-link")
        follow(page, "#setup-link button[formaction]")
        assert "The setup link that was made before opens nothing" in page.inner_text("main .good")

        confirm(page, "rotate", "a new year")
        store(page)
        confirm(page, "complete", "it is pasted")
        assert "The older secret has ended" in page.inner_text("main .good")


@visits(*(f"POST {ONE}/{command}" for command in ("allow-networks", "allow-any-network")))
@WITH_AND_WITHOUT
@pytest.mark.parametrize("width", [1280, 320])
def test_its_networks_are_set_mended_and_lifted(
    service: RunningService, signed_in: Open, admin: Caller, has_script: bool, width: int
) -> None:
    token = create(service, admin, uuid4(), "By keyboard")
    with signed_in(has_script=has_script, width=width) as page:
        page.goto(f"/console/tokens/{token['id']}")
        ask(page, "allow-networks")
        tab_to(page, "#allow-networks-list")
        page.keyboard.type("192.0.2.7/24")
        page.keyboard.press("Enter")
        page.keyboard.type("2001:db8::/32")
        follow(page, "#allow-networks button")
        assert page.is_visible("#allow-networks"), "with its mistake, and the field has the focus"
        assert "bits beyond its length" in page.inner_text("#allow-networks-about")
        assert is_at(page, "#allow-networks-list")
        page.keyboard.press("Control+Home")
        page.keyboard.press("End")
        for _ in "7/24":
            page.keyboard.press("Backspace")
        page.keyboard.type("0/24")
        follow(page, "#allow-networks button")
        assert "Good from its networks alone" in page.inner_text("main .good")
        assert page.locator("section li code").all_inner_texts() == [
            "192.0.2.0/24",
            "2001:db8::/32",
        ]
        confirm(page, "allow-any-network", "by keyboard")
        assert "Good from anywhere again" in page.inner_text("main .good")


@pytest.mark.parametrize("key", ["Escape", "Enter"])
def test_a_dialog_that_was_opened_with_its_mistake_closes_and_opens_again(
    service: RunningService, signed_in: Open, admin: Caller, key: str
) -> None:
    token = create(service, admin, uuid4(), "By keyboard")
    with signed_in() as page:
        page.goto(f"/console/tokens/{token['id']}")
        ask(page, "allow-networks")
        type_into(page, "#allow-networks-list", "the office")
        follow(page, "#allow-networks button")
        if key == "Enter":
            tab_to(page, "#allow-networks [data-close]")
        page.keyboard.press(key)
        page.wait_for_selector("#allow-networks", state="hidden")
        ask(page, "allow-networks")
        assert page.input_value("#allow-networks-list") == "the office"


@visits("GET /console/tokens/revoke", "POST /console/tokens/revoke")
@WITH_AND_WITHOUT
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


@visits("GET /console/audit", "GET /console/audit/export")
@WITH_AND_WITHOUT
@pytest.mark.parametrize("width", [1280, 320])
def test_the_trail_is_narrowed_paged_handed_on_and_taken_along(
    service: RunningService, signed_in: Open, admin: Caller, has_script: bool, width: int
) -> None:
    team = uuid4()
    for number in range(27):
        create(service, admin, team, f"n{number}", reason="by keyboard")
    with signed_in(has_script=has_script, width=width) as page:
        follow(page, "nav a[href='/console/audit']")
        type_into(page, "#team", str(team))
        tab_to(page, "#outcome")
        page.keyboard.press("ArrowDown")
        assert page.input_value("#outcome") == "success"
        follow(page, ".filters button")
        assert page.locator(".history li").count() == 25
        follow(page, "a[rel='next']")
        assert page.locator(".history li").count() == 2
        follow(page, ".foot nav a")
        follow(page, ".foot > a")
        assert "before=" in page.url
        assert page.locator(".history li").count() == 25
        for number, name in enumerate(("audit.csv", "audit.ndjson")):
            tab_to(page, f".head .row a:nth-child({number + 1})")
            with page.expect_download() as taken:
                page.keyboard.press("Enter")
            assert taken.value.suggested_filename == name
            assert taken.value.path().read_text().count("by keyboard") == 27
        follow(page, ".history .under a")
        assert page.url.partition("/console/tokens/")[2] in page.inner_text("main .facts")


@visits(
    *("GET /console/api-tokens", "GET /console/api-tokens/new", "POST /console/api-tokens/new"),
    "GET /console/api-tokens/{token_id:uuid}",
    *(f"POST /console/api-tokens/{{token_id:uuid}}/{command}" for command in ("rotate", "revoke")),
)
@WITH_AND_WITHOUT
@pytest.mark.parametrize("width", [1280, 320])
def test_an_api_token_is_made_rotated_and_revoked(
    signed_in: Open, has_script: bool, width: int
) -> None:
    with signed_in(has_script=has_script, width=width) as page:
        follow(page, "nav a[href='/console/api-tokens']")
        follow(page, ".head a")
        type_into(page, "#user_id", str(uuid4()))
        press(page, "[name='audit:read']", "Space")
        type_into(page, "#reason", "by keyboard")
        follow(page, "main form button")
        made = store(page)
        follow(page, "form[action$='/rotate'] button")
        assert store(page) != made
        press(page, "form[action$='/revoke'] [type='checkbox']", "Space")
        follow(page, "form[action$='/revoke'] button")
        assert "Revoked, everywhere" in page.inner_text("main .good")


@visits("GET /console/system", *(f"POST /console/system/{{name:str}}/{each}" for each in COMMANDS))
@pytest.mark.parametrize(
    ("has_script", "view", "width"),
    [(True, "usage", 1280), (False, "token_sources", 1280), (True, "audit_trail", 320)],
    ids=["script", "no script", "narrow"],
)
def test_the_service_is_examined_and_a_view_retried_and_rebuilt(
    service: RunningService, signed_in: Open, has_script: bool, view: str, width: int
) -> None:
    with signed_in(has_script=has_script, width=width) as page:
        follow(page, "nav a[href='/console/system']")
        follow(page, "main .head a")
        assert "What the doctor finds" in page.content()
        with stopped(service, view):
            page.goto("/console/system")
            follow(page, f"[aria-label='Retry {view}']")
            assert "The view tries the event again." in page.inner_text("main .good")
        follow(page, f"[aria-label='Rebuild {view}']")
        assert "The rebuild is asked for." in page.inner_text("main .good")
        with failed(service, view):
            page.goto("/console/system")
            form = f"form[action='/console/system/{view}/accept-difference']"
            press(page, f"{form} button")
            assert is_at(page, f"{form} input"), "the browser asks for the mark first"
            page.keyboard.press("Space")
            follow(page, f"{form} button")
            assert "The rebuild is asked for." in page.inner_text("main .good")

"""Every text from outside is shown as text: names, reasons, agents, whatever they look like."""

from typing import Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Page

from tests.console.browser.conftest import Open
from tests.console.browser.routes import visits
from tests.console.test_setup import link_of
from tests.console.test_system import failed, stopped
from tests.console.test_tokens import create, present
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

FOREIGN: Final = "iframe, base, main style, main script, main img:not([src^='/console/assets/'])"
MARK: Final = "() => window.broken"
TEXTS: Final = (
    "<script>window.broken = 1</script>",
    "</title><script>window.broken = 1</script>",
    '"><img src=x onerror="window.broken = 1">',
    "'><svg onload=window.broken=1>",
    '" autofocus onfocus="window.broken = 1" x="',
    "</textarea></table></dialog><iframe srcdoc='<script>parent.broken = 1</script>'>",
    "<a href='javascript:window.broken = 1'>click</a>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<style>* { display: none }</style>",
    "{{ 7 * 7 }}{% raw %}${7 * 7}#{7 * 7}",
    "&lt;b&gt; &amp;amp; &#x3c;script&#x3e;",
    "--><script>window.broken = 1</script><!--",
    "]]><script>window.broken = 1</script>",
    "javascript:window.broken = 1",
    "%3Cscript%3Ewindow.broken%3D1%3C/script%3E",
)
ONE: Final = "/console/tokens/{token_id:uuid}"
API_TOKEN: Final = "/console/api-tokens/{token_id:uuid}"
TOKENS: Final = ("team", "name", "created_by", "state", "use", "ends")
TRAIL: Final = ("team", "token", "user", "api_token", "what", "outcome", "source", "from", "to")
BULK: Final = ("ids", "team", "created_by", "unused", "created_before")
QUERIES: Final = (
    *(("tokens", TOKENS), ("tokens", ("after",)), ("tokens", ("nothing",))),
    *(("audit", TRAIL), ("audit", ("before",))),
    *(("tokens/revoke", BULK), ("api-tokens", ("after",)), ("api-tokens", ("done",))),
    *(("system", ("examine",)), ("system", ("done",))),
)
"""Pages, and what their addresses may say; what they may not is told on a page, too."""
each_text: Final = pytest.mark.parametrize("text", TEXTS)


@pytest.fixture(scope="module")
def team(service: RunningService, admin: Caller) -> UUID:
    """A team with a token of each name; its reason and the agents around it are called the same."""
    made = uuid4()
    for text in TEXTS:
        body = {"team_id": str(made), "name": text, "reason": text}
        token = service.client.post(
            "/scim-token", json=body, auth=admin, headers={"User-Agent": text}
        ).json()
        present(service, token["token"], agent=text)
    return made


def assert_whole(page: Page) -> None:
    assert page.evaluate(MARK) is None
    assert page.url.startswith("http://127.0.0.1")
    assert page.locator(FOREIGN).count() == 0
    assert page.locator("h1").is_visible()


@visits("GET /console/tokens")
def test_they_are_text_in_the_list(signed_in: Open, team: UUID) -> None:
    with signed_in() as page:
        page.goto(f"/console/tokens?team={team}")
        shown = page.locator("tbody th a").all_inner_texts()
        assert [text[:40] for text in shown] == [text[:40] for text in reversed(TEXTS)]
        assert_whole(page)
        page.goto("/console/tokens")
        for text in TEXTS:
            page.fill("#name", text)
            page.click(".filters button")
            assert page.input_value("#name") == text
            assert_whole(page)


@visits(f"GET {ONE}")
@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_they_are_text_on_the_token_s_page_and_its_forms(
    signed_in: Open, team: UUID, number: int
) -> None:
    text = TEXTS[number]
    with signed_in() as page:
        page.goto(f"/console/tokens?team={team}")
        page.locator("tbody th a").nth(len(TEXTS) - 1 - number).click()
        page.wait_for_selector("#history")
        assert page.inner_text("h1") == text
        assert page.title() == f"{text} · SCIM token ledger"
        assert f"because “{text}”" in page.inner_text(".history")
        assert text in page.inner_text("table.plain >> nth=0")
        assert_whole(page)


@visits("GET /console/tokens/new", "POST /console/tokens/new")
@each_text
def test_they_are_text_where_a_form_has_a_mistake(signed_in: Open, text: str) -> None:
    with signed_in() as page:
        page.goto("/console/tokens/new")
        page.fill("#name", text)
        page.fill("#team_id", text[:36])
        page.fill("#reason", text)
        page.click("main form button")
        page.wait_for_selector(".mistake")
        assert page.input_value("#name") == text
        assert page.input_value("#reason") == text
        assert_whole(page)


def leave(page: Page) -> None:
    """A page that shows something once."""
    assert_whole(page)
    page.check("[data-stored]")
    page.click("[data-reveal] form button")


@visits(
    *("POST /console/tokens/new", f"POST {ONE}/rotate", f"POST {ONE}/setup-link"),
    "GET /console/setup/{token:str}/{code:str}",
    "POST /console/setup/{token:str}/{code:str}",
)
@each_text
def test_they_are_text_where_something_is_shown_once(
    service: RunningService, admin: Caller, signed_in: Open, text: str
) -> None:
    with signed_in() as page:
        page.goto("/console/tokens/new")
        page.fill("#name", text)
        page.fill("#team_id", str(uuid4()))
        page.click("main form button")
        assert page.inner_text("#secret-of") == f"Secret of {text}"
        leave(page)
        page.wait_for_selector("#history")
        at = page.url
        page.click("a[href='#setup-link']")
        page.click("#setup-link button.primary")
        assert page.inner_text("#link-of") == f"Setup link of {text}"
        leave(page)
        page.wait_for_selector("#history")
        page.click("a[href='#rotate']")
        page.fill("#rotate-reason", text)
        page.click("#rotate button")
        assert page.inner_text("#secret-of") == f"Secret of {text}"
        leave(page)
        page.wait_for_selector("#history")
        assert at in page.url

        page.goto(link_of(service, admin, create(service, admin, uuid4(), text)["id"]))
        assert page.inner_text("h1") == f"Connect {text}"
        assert page.title() == f"Connect {text} · SCIM token ledger"
        assert_whole(page)
        page.click("form button")
        page.wait_for_selector("[data-reveal]")
        assert page.inner_text("h1") == f"Your token for {text}"
        leave(page)


@visits("GET /console/tokens/revoke", "POST /console/tokens/revoke")
def test_they_are_text_where_many_are_revoked(
    service: RunningService, admin: Caller, signed_in: Open
) -> None:
    made = uuid4()
    for text in TEXTS:
        create(service, admin, made, text)
    with signed_in() as page:
        for turn in ("would be revoked", "revoked"):
            if turn == "revoked":
                page.fill("#reason", TEXTS[0])
                page.click("main form button")
            else:
                page.goto(f"/console/tokens/revoke?team={made}")
            assert page.inner_text("h1") == f"{len(TEXTS)} tokens {turn}"
            shown = page.locator("tbody th a").all_inner_texts()
            assert [text[:40] for text in shown] == [text[:40] for text in reversed(TEXTS)]
            assert_whole(page)


@visits("GET /console/audit")
def test_they_are_text_in_the_trail(signed_in: Open, team: UUID) -> None:
    with signed_in() as page:
        page.goto(f"/console/audit?team={team}&what=scim_token.created")
        told = page.locator(".history li").all_inner_texts()
        for text, line in zip(reversed(TEXTS), told, strict=True):
            assert f"({text}) because “{text}”" in line
        assert_whole(page)


@visits(
    *("GET /console/api-tokens", "GET /console/api-tokens/new", "POST /console/api-tokens/new"),
    *(f"GET {API_TOKEN}", f"POST {API_TOKEN}/rotate", "GET /console/audit"),
)
@each_text
def test_they_are_text_on_the_pages_of_api_tokens(signed_in: Open, text: str) -> None:
    with signed_in() as page:
        page.goto("/console/api-tokens/new")
        for field in ("user_id", "teams", "reason"):
            page.locator(f"#{field}").evaluate("(field, text) => { field.value = text }", text)
        page.check("[name='audit:read']")
        page.click("main form button")
        page.wait_for_selector(".mistake")
        for field in ("user_id", "teams", "reason"):
            assert page.input_value(f"#{field}") == text
        assert_whole(page)
        page.fill("#user_id", str(uuid4()))
        page.fill("#teams", "")
        page.click("main form button")
        leave(page)
        page.fill("#rotate-reason", text)
        page.click("form[action$='/rotate'] button")
        leave(page)
        page.wait_for_selector("main .facts")
        assert_whole(page)
        page.click("main a[href^='/console/audit?token=']")
        rotated, created = page.locator(".history li").all_inner_texts()
        for line in (rotated, created):  # cut short where it is long
            assert f"because “{text[:40]}" in line
        assert_whole(page)
        page.goto("/console/api-tokens")
        assert_whole(page)


@visits("GET /console/system")
@each_text
def test_they_are_text_on_the_page_of_the_system(
    service: RunningService, signed_in: Open, text: str
) -> None:
    with (
        signed_in() as page,
        stopped(service, "usage", text),
        failed(service, "token_sources", text),
    ):
        page.goto("/console/system")
        assert page.inner_text("main").count(text) == 2
        assert_whole(page)


@visits("GET /console/sign-in", "POST /console/sign-in")
@each_text
def test_they_are_text_for_whoever_signs_in(window: Open, text: str) -> None:
    with window() as page:
        page.goto(f"/console/sign-in?{urlencode({'to': text})}")
        assert page.input_value("[name='to']") == "/console"
        page.fill("#token", text)
        page.click("button")
        page.wait_for_selector(".mistake")
        assert_whole(page)


@visits("GET /console/tokens", "GET /console/audit", "GET /console/tokens/revoke")
@each_text
def test_they_are_text_in_an_address(signed_in: Open, text: str) -> None:
    with signed_in() as page:
        for path, names in QUERIES:
            page.goto(f"/console/{path}?{urlencode(dict.fromkeys(names, text))}")
            assert_whole(page)
            for name in names:
                field = page.locator(f"input#{name}:not([type=date])")
                assert all(each.input_value() == text for each in field.all())


def test_planted_a_text_that_is_no_text_would_be_seen(signed_in: Open) -> None:
    """What the checks above look at is what a page of any other make would do."""
    with signed_in() as page:
        page.evaluate("text => { document.querySelector('main').innerHTML = text }", TEXTS[7])
        with pytest.raises(AssertionError):
            assert_whole(page)

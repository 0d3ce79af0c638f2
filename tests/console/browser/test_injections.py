"""Every text from outside is shown as text: names, reasons, agents, whatever they look like."""

from typing import Final
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Page

from tests.console.browser.conftest import Open
from tests.console.test_tokens import create, present
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

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


@pytest.fixture(scope="module")
def team(service: RunningService, admin: Caller) -> UUID:
    """A team with a token of each name; its reason and its user's name are the same."""
    made = uuid4()
    for text in TEXTS:
        token = create(service, admin, made, text, reason=text)
        present(service, token["token"], agent=text)
    return made


def assert_whole(page: Page) -> None:
    assert page.evaluate(MARK) is None
    assert page.url.startswith("http://127.0.0.1")
    assert page.locator("iframe, base, main style, main script, main img").count() == 0
    assert page.locator("h1").is_visible()


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


@pytest.mark.parametrize("text", TEXTS)
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


def test_planted_a_text_that_is_no_text_would_be_seen(signed_in: Open) -> None:
    """What the checks above look at is what a page of any other make would do."""
    with signed_in() as page:
        page.evaluate("text => { document.querySelector('main').innerHTML = text }", TEXTS[7])
        with pytest.raises(AssertionError):
            assert_whole(page)

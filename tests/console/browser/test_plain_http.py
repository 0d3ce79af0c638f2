"""The console opened over plain http, by a name that is not this machine's: what a browser makes of
it, and what the pages say.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page

from api.console.same_origin import NEEDS_HTTPS
from tests.console.browser.chromium import started
from tests.console.browser.test_looks import assert_at_any_width
from tests.console.test_setup import link_of
from tests.console.test_tokens import create
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

HOST: Final = "ledger.internal"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """To this one another machine has the service's address."""
    with started(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser:
        yield browser


@pytest.fixture(params=[320, 1280])
def page(
    request: pytest.FixtureRequest, chromium: Browser, service: RunningService
) -> Iterator[Page]:
    """A window on the service, by that name."""
    context = chromium.new_context(
        base_url=service.url.replace("127.0.0.1", HOST),
        viewport={"width": request.param, "height": 800},
    )
    yield context.new_page()
    context.close()


def test_the_sign_in_says_what_to_do(page: Page, tmp_path: Path) -> None:
    page.goto("/console/tokens")
    assert "opened over plain http" in page.inner_text("main")
    assert page.query_selector("form") is None
    assert_at_any_width(page, tmp_path, "sign-in-plain")


def test_the_setup_page_says_what_to_do(
    service: RunningService, admin: Caller, page: Page, tmp_path: Path
) -> None:
    link = link_of(service, admin, create(service, admin, uuid4(), "Okta")["id"])
    page.goto(link)
    assert "opened over plain http" in page.inner_text("main")
    assert page.query_selector("form") is None
    assert_at_any_width(page, tmp_path, "setup-plain")


def test_a_form_that_is_sent_all_the_same_is_refused_with_the_reason(page: Page) -> None:
    """It says neither Sec-Fetch-Site nor, by the policy of the pages, an Origin."""
    page.goto("/console/sign-in")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.evaluate(
            """() => {
                const form = document.createElement("form");
                form.method = "post";
                document.body.append(form);
                form.submit();
            }"""
        )
    headers = sent.value.all_headers()
    assert "sec-fetch-site" not in headers
    assert headers["origin"] == "null"
    page.wait_for_load_state()
    assert NEEDS_HTTPS in page.inner_text("main")


def test_the_sign_in_says_by_which_scheme_it_was_opened(
    service: RunningService, chromium: Browser
) -> None:
    """Behind a proxy that hands on nothing, its Origin alone tells that the cookie needs https."""
    page = chromium.new_page(base_url=service.url)
    page.goto("/console/sign-in")
    page.fill("#token", "x")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.click("text=Sign in >> nth=-1")
    assert sent.value.all_headers()["origin"] == service.url
    page.wait_for_load_state()
    assert "valid here" in page.inner_text("main")
    page.close()

"""The networks of a token, as many as there may be, for every eye and at any width."""

from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page

from tests.console.browser.conftest import Open
from tests.console.browser.test_looks import LOOKS, assert_at_any_width, assert_for_everybody
from tests.console.test_tokens import create
from tests.service import Caller, RunningService

pytestmark = pytest.mark.browser

NETWORKS = [f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{number:x}" for number in range(5000, 5200)]


def send(page: Page, networks: list[str]) -> None:
    page.fill("#allow-networks-list", "\n".join(networks))
    with page.expect_navigation():
        page.click("#allow-networks button")


@pytest.fixture
def path(service: RunningService, admin: Caller) -> str:
    """Of a token's page."""
    return f"/console/tokens/{create(service, admin, uuid4(), 'Okta')['id']}"


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_they_are_told_asked_for_and_mended(
    signed_in: Open, path: str, tmp_path: Path, width: int, scheme: str
) -> None:
    with signed_in(width=width, scheme=scheme) as page:
        page.goto(path)
        page.click("a[href='#allow-networks']")
        assert_for_everybody(page, tmp_path, "asked for")
        send(page, [*NETWORKS[1:], "192.0.2.7/24"])
        assert_for_everybody(page, tmp_path, "with a mistake")
        # as it is without the script
        page.eval_on_selector("#allow-networks", "dialog => { dialog.close(); dialog.show() }")
        assert_for_everybody(page, tmp_path, "with a mistake, as the page has opened it")
        send(page, NETWORKS)
        assert_at_any_width(page, tmp_path, "told")
        page.click("a[href='#allow-any-network']")
        assert_for_everybody(page, tmp_path, "any asked for")

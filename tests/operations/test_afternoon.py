"""The afternoon of somebody who takes the service up, from the first sign-in to an auditor's
question: each step as its page of the documentation says it, with what stands around the service.

How it is installed is told by `tests/docs/test_install.py` and `tests/installation/`.
"""

import time
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Page

from domain.api_token.permissions import Permission
from tests.conftest import new_database
from tests.console.browser.conftest import Open, chromium, signed_in, visited, window
from tests.console.browsing import secrets_in
from tests.gateways.echo import Recorder, echo_backend
from tests.gateways.programs import require, running_gateway
from tests.operations.prometheus import Prometheus, running_prometheus
from tests.service import Caller, RunningService, running_service, until

pytestmark = pytest.mark.browser

__all__ = ["chromium", "signed_in", "visited", "window"]  # fixtures

PROVIDER: Final = "127.0.0.9"
ALERT: Final = 'ALERTS{alertname="ScimLedgerEndedTokens",alertstate="firing"}'
WHY: Final = "the customer left"


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    """It trusts what nginx says of a client's address."""
    trusting = {"SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1"}
    with (
        new_database(server) as database,
        running_service(database, environment=trusting) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def admin(service: RunningService) -> Caller:
    """Whoever takes the service up."""
    return service.api_token()


@pytest.fixture(scope="module")
def prometheus(service: RunningService) -> Iterator[Prometheus]:
    """With the alerts of `deploy/`."""
    require({"prometheus": "apt-get install --no-install-recommends prometheus"})
    watcher = service.api_token(Permission.PROJECTIONS_MANAGE)
    target = service.url.removeprefix("http://")
    with running_prometheus(target, api_token=watcher.secret) as started:
        yield started


@pytest.fixture(scope="module")
def provider(service: RunningService) -> Iterator[httpx.Client]:
    """What calls as an identity provider does, through nginx as its recipe has it."""
    transport = httpx.HTTPTransport(local_address=PROVIDER)
    with (
        echo_backend(Recorder()) as backend,
        running_gateway("nginx", ledger=service.url, backend=backend) as url,
        httpx.Client(base_url=url, timeout=20, trust_env=False, transport=transport) as client,
    ):
        until(lambda: client.get("/scim/v2/Users").status_code == 401, what="nginx asking")
        yield client


def test_from_the_first_token_to_an_auditors_question(
    signed_in: Open,
    window: Open,
    prometheus: Prometheus,
    provider: httpx.Client,
) -> None:
    with signed_in() as page, window() as contact:
        token_page = make(page)
        contact.goto(hand_over(page))
        secret = reveal(contact)
        assert contact.is_visible("text=Not yet.")
        assert call(provider, secret) == 200
        contact.reload()
        assert contact.is_visible("text=Yes, it is connected.")
        assert prometheus.values(ALERT) == []
        revoke(page, token_page)
        assert call(provider, secret) == 401
        until(lambda: alerted(provider, secret, prometheus), timeout_s=60, what="the alert")
        page.goto(token_page)
        (told,) = [
            line
            for line in page.locator("ol.history li span").all_inner_texts()
            if line.startswith("Revoked")
        ]
        assert WHY in told
        assert "127.0.0.1" in told  # whose browser that was
        assert PROVIDER in page.inner_text("main")  # and from where it had been used


def make(page: Page) -> str:
    """A token, whose secret nobody keeps; returns the address of its page."""
    page.goto("/console/tokens/new")
    page.fill("#name", "Acme, Okta")
    page.fill("#team_id", str(uuid4()))
    page.click("main form button")
    page.check("[data-stored]")
    page.click("[data-reveal] form button")
    page.wait_for_url("**/console/tokens/*-*")
    return page.url


def hand_over(page: Page) -> str:
    """A link for the customer's contact, from the page of a token."""
    page.click("text=Hand over…")
    page.click("#setup-link button.primary")
    link = page.inner_text("#link")
    page.check("[data-stored]")
    page.click("[data-reveal] form button")
    return link


def reveal(page: Page) -> str:
    """The contact has the secret made, and goes on to the test."""
    page.click("button >> text=Show the token")
    page.wait_for_selector("[data-reveal]")
    (secret,) = secrets_in(page.content())
    page.check("[data-stored]")
    page.click("button >> text=Test the connection")
    page.wait_for_selector("text=Has your provider called yet?")
    return secret


def call(provider: httpx.Client, secret: str) -> int:
    """The status of one call."""
    headers = {"Authorization": f"Bearer {secret}"}
    return provider.get("/scim/v2/Users", headers=headers).status_code


def revoke(page: Page, token_page: str) -> None:
    """Behind the guard that tells when it was last used."""
    page.goto(token_page)
    page.click("text=Revoke…")
    assert page.is_visible("#revoke >> text=Last used")
    page.fill("#revoke-reason", WHY)
    page.click("#revoke button.danger")
    page.wait_for_load_state()


def alerted(provider: httpx.Client, secret: str, prometheus: Prometheus) -> bool:
    """The provider goes on to call, and is refused; whether that was told by now."""
    assert call(provider, secret) == 401
    time.sleep(0.5)
    return prometheus.values(ALERT) == [1.0]

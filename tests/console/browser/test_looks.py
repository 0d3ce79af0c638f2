"""Every page, light and dark, wide and 320 px: nobody is left out, and nothing runs off the edge.

The pictures of the documentation are made here, into the folder CONSOLE_PICTURES names.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, Literal
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from tests.conftest import new_database, open_ledger
from tests.console.browser.chromium import sign_in
from tests.console.browser.routes import Route, visits, watched
from tests.console.browsing import BASE_URL
from tests.console.test_system import VIEW, failed, rebuild_held, stopped
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.service import RunningService, running_service

pytestmark = pytest.mark.browser

NAMES: Final = (
    *("Acme · Okta", "Globex · Entra ID", "Initech · Okta sandbox", "Umbrella · JumpCloud"),
    *("Hooli · Google Workspace", "Stark Industries · Okta", "Wayne Enterprises · Entra ID"),
    *("Wonka · OneLogin", "Soylent · Okta", "Cyberdyne · Entra ID", "Tyrell · Ping Identity"),
)
ENDS_IN: Final = {1: 5, 4: 21, 6: 200, 9: 90}
"""Days from now until some of them end."""
AGENTS: Final = ("Okta SCIM Client 1.0.0", "Microsoft.Azure.SyncFabric", "Go-http-client/2.0")
DAYS: Final = 40
ONE: Final = "/console/tokens/{token_id:uuid}"
API_TOKEN: Final = "/console/api-tokens/{token_id:uuid}"
NARROW: Final = 320
BETWEEN: Final = (480, 640, 832, 895, 896, 960, 1135, 1136)
"""With both sides of where a list becomes a table, and where the bar above becomes a column."""
LOOKS: Final = tuple((width, scheme) for width in (1280, NARROW) for scheme in ("light", "dark"))
RUNS_OUT: Final = """() => [...document.querySelectorAll("main *:not(svg *)")].filter((each) => {
    const box = each.getBoundingClientRect(), around = each.parentElement.getBoundingClientRect();
    const isPlaced = ["absolute", "fixed"].includes(getComputedStyle(each).position);
    return each.checkVisibility() && !isPlaced && box.right > around.right + 1;
}).map((each) => each.outerHTML.slice(0, 200))"""
"""What is wider than the place it stands in."""
BROKEN: Final = """() => [...document.querySelectorAll("button, .button")].flatMap((each) => {
    const broken = [], texts = document.createTreeWalker(each, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\\S+/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
    }
    return broken;
})"""
"""Words of buttons that go on in the next line."""
CANNOT: Final = (
    "the event is of a newer release: scim_token.ownership_transferred_between_departments.v12 of"
    f" the stream {'01890f4e7c0d7a3e' * 6}"
)
DIFFERS: Final = (
    "differs in told, first_at: 12,345 rows, such as"
    f" \\x{'01890f4e7c0d7a3e' * 4} 2001:db8:85a3:8d3:1319:8a2e:370:7348"
)
"""Why a view has stopped, and why a rebuild has failed: words that do not break are long."""


@dataclass(frozen=True)
class Seen:
    """A service with a history, and who may look at it."""

    service: RunningService
    secret: str
    rotating: UUID
    busy: UUID


@pytest.fixture(scope="module")
def seen(server: str) -> Iterator[Seen]:
    """Forty days in the life of eleven tokens."""
    clock = HandClock(datetime.now(UTC) - timedelta(days=DAYS))
    found: dict[str, UUID] = {}
    secrets: list[str] = []

    async def live() -> None:
        app = believing_any_clock(database)
        async with open_ledger(app, clock_and_ids=clock.clock_and_ids) as ledger:
            await _history(ledger, clock, found, secrets)

    with new_database(server) as database:
        with ThreadPoolExecutor(1) as thread:  # the browser's driver keeps a loop in this one
            thread.submit(lambda: asyncio.run(live())).result()
        told = {"SCIM_LEDGER_SCIM_BASE_URL": BASE_URL}
        with running_service(database, environment=told) as started:
            yield Seen(started, secrets[0], found["rotating"], found["busy"])


async def _history(
    ledger: TokenLedger, clock: HandClock, found: dict[str, UUID], secrets: list[str]
) -> None:
    random, now = Random(7), clock.now + timedelta(days=DAYS)
    ask = NewApiToken(uuid4(), None, tuple(Permission), None)
    admin, secret = await ledger.create_api_token(ask)
    secrets.append(secret.reveal())
    tokens = []
    for number, name in enumerate(NAMES):
        clock.advance(timedelta(hours=7))
        ends_at = now + timedelta(days=ENDS_IN[number]) if number in ENDS_IN else None
        asked = NewScimToken(uuid4(), name, ends_at, "new customer" if number == 0 else None)
        tokens.append(await ledger.create_scim_token(asked, by=admin.id))
    paces = [random.choice((0, 1, 2, 4)) for _ in tokens]
    paces[0], paces[2] = 5, 0
    while clock.now < now - timedelta(hours=20):
        clock.advance(timedelta(hours=5))
        for (_, secret), pace, agent in zip(tokens, paces, AGENTS * 9, strict=False):
            for _ in range(random.randint(0, pace)):
                await ledger.authenticate(
                    secret, Presentation("scim", source="198.51.100.7", user_agent=agent)
                )
    clock.now = now - timedelta(hours=16)
    token, _ = await ledger.rotate_scim_token(tokens[0][0].id, by=admin.id, reason="yearly")
    found["rotating"], found["busy"] = token.id, tokens[1][0].id
    await ledger.suspend_scim_token(tokens[3][0].id, by=admin.id, reason="contract ended")
    await ledger.revoke_scim_token(tokens[10][0].id, by=Operator(), reason="left us")
    clock.now = now - timedelta(hours=2)


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[1]} {look[0]} px", scope="module")
def window_of(request: pytest.FixtureRequest, chromium: Browser, seen: Seen) -> Iterator[Page]:
    """Somebody who is signed in, with eyes of one kind and a window of one width."""
    width, scheme = request.param
    context = chromium.new_context(
        base_url=seen.service.url,
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        device_scale_factor=1,
    )
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/console/sign-in")
    page.fill("#token", seen.secret)
    page.click("button")
    page.wait_for_url("**/console/tokens")
    yield page
    context.close()


@pytest.fixture
def look(window_of: Page, visited: set[Route | None]) -> Iterator[Page]:
    """The same window, of which this test's own way is kept."""
    with watched(window_of, visited):
        yield window_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("CONSOLE_PICTURES")
    return Path(given) if given else tmp_path_factory.mktemp("pictures")


def assert_for_everybody(page: Page, pictures: Path, name: str) -> None:
    """No finding of axe-core, nothing beyond the edge of the page or of what it stands in, no
    button's word broken; and a picture of it, whole where the page is narrow.
    """
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(RUNS_OUT) == []
    assert page.evaluate(BROKEN) == []
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    kind = "dark" if dark else "light"
    page.screenshot(path=pictures / f"{name}-{kind}-{width}.png", full_page=width == NARROW)


def assert_at_any_width(page: Page, pictures: Path, name: str) -> None:
    """The same at the window's own width, and at what is between the narrow one and the wide."""
    assert_for_everybody(page, pictures, name)
    size = page.viewport_size
    assert size is not None
    if size["width"] == NARROW:
        return
    for width in BETWEEN:
        page.set_viewport_size({"width": width, "height": size["height"]})
        assert_for_everybody(page, pictures, name)
    page.set_viewport_size(size)


def hide(page: Page, id_: str, text: str) -> None:
    """Put the text where a secret is shown: a picture is kept, and a secret is not."""
    page.wait_for_selector(f"#{id_}")
    page.evaluate("([id, text]) => { document.getElementById(id).textContent = text }", [id_, text])


def leave(page: Page) -> None:
    """A page that shows something once, for the one that it leads to."""
    page.check("[data-stored]")
    with page.expect_navigation():
        page.click("[data-reveal] form button")


def create_token(page: Page) -> str:
    """By the form; its id."""
    page.goto("/console/tokens/new")
    page.fill("#name", "Acme · Okta")
    page.fill("#team_id", str(uuid4()))
    page.click("main form button")
    leave(page)
    return urlsplit(page.url).path.rpartition("/")[2]


def revoke(page: Page) -> None:
    """The token whose page it is: a test leaves the list as it found it."""
    page.click("a[href='#revoke']")
    page.click("#revoke button")
    page.wait_for_selector("main .revoked")


@visits("GET /console/tokens")
def test_the_list(look: Page, pictures: Path) -> None:
    look.goto("/console/tokens")
    assert_at_any_width(look, pictures, "tokens")
    look.goto("/console/tokens?state=nonsense&team=x")
    assert_for_everybody(look, pictures, "tokens-mistake")
    look.goto("/console/tokens?name=nobody")
    assert_for_everybody(look, pictures, "tokens-none")


@visits(f"GET {ONE}")
def test_one_token(look: Page, pictures: Path, seen: Seen) -> None:
    for id_, name in ((seen.busy, "token"), (seen.rotating, "token-rotating")):
        look.goto(f"/console/tokens/{id_}")
        assert_for_everybody(look, pictures, name)


@pytest.mark.parametrize("command", ["complete", "cancel", "suspend", "change", "revoke"])
def test_its_dialogs(look: Page, pictures: Path, seen: Seen, command: str) -> None:
    look.goto(f"/console/tokens/{seen.rotating}")
    look.click(f"a[href='#{command}']")
    assert_for_everybody(look, pictures, f"dialog-{command}")
    look.goto(f"/console/tokens/{seen.rotating}#{command}")
    look.reload()  # as it is without the script
    assert_for_everybody(look, pictures, f"dialog-{command}-by-address")


@visits("GET /console/tokens/new", "POST /console/tokens/new", f"POST {ONE}/rotate")
def test_the_form_of_a_new_one_its_mistakes_and_the_secret(look: Page, pictures: Path) -> None:
    look.goto("/console/tokens/new")
    assert_for_everybody(look, pictures, "new-token")
    look.fill("#name", "Acme · Okta")
    look.fill("#team_id", "acme")
    look.click("main form button")
    assert_for_everybody(look, pictures, "new-token-mistake")
    look.fill("#team_id", str(uuid4()))
    look.click("main form button")
    look.wait_for_selector("[data-reveal]")
    hide(look, "secret", "scim_live_" + "x" * 49)
    assert_for_everybody(look, pictures, "reveal")
    leave(look)
    look.click("a[href='#rotate']")
    assert_for_everybody(look, pictures, "dialog-rotate")
    look.click("#rotate button")
    hide(look, "secret", "scim_live_" + "x" * 49)
    assert_for_everybody(look, pictures, "reveal-rotated")
    leave(look)
    revoke(look)


@visits("GET /console/tokens/revoke", "POST /console/tokens/revoke")
def test_many_at_once(look: Page, pictures: Path) -> None:
    look.goto("/console/tokens/revoke")
    assert_for_everybody(look, pictures, "bulk")
    look.goto("/console/tokens/revoke?unused=30")
    assert_at_any_width(look, pictures, "bulk-rehearsal")
    made = [create_token(look) for _ in range(2)]
    look.goto(f"/console/tokens/revoke?{urlencode({'ids': made}, doseq=True)}")
    look.fill("#reason", "left us")
    look.click("main form button")
    assert_for_everybody(look, pictures, "bulk-done")


def test_what_is_not_there(look: Page, pictures: Path) -> None:
    look.goto(f"/console/tokens/{uuid4()}")
    assert_for_everybody(look, pictures, "problem")


@visits("GET /console/sign-in")
@pytest.mark.parametrize("how", LOOKS, ids=lambda how: f"{how[1]} {how[0]} px")
def test_the_sign_in(
    chromium: Browser,
    seen: Seen,
    pictures: Path,
    visited: set[Route | None],
    how: tuple[int, Literal["light", "dark"]],
) -> None:
    width, scheme = how
    context = chromium.new_context(
        base_url=seen.service.url,
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    page = context.new_page()
    with watched(page, visited):
        page.goto("/")
        page.wait_for_url("**/console/sign-in")
        assert_for_everybody(page, pictures, "sign-in")
        page.fill("#token", "nonsense")
        page.click("button")
        assert_for_everybody(page, pictures, "sign-in-mistake")
    context.close()


@visits("GET /console/audit")
def test_the_audit_trail(look: Page, pictures: Path, seen: Seen) -> None:
    look.goto("/console/audit")
    assert_at_any_width(look, pictures, "audit")
    look.goto(f"/console/audit?token={seen.rotating}&from=tomorrow&user=x")
    assert_for_everybody(look, pictures, "audit-mistake")


@visits(
    *("GET /console/api-tokens", "GET /console/api-tokens/new", "POST /console/api-tokens/new"),
    *(f"GET {API_TOKEN}", f"POST {API_TOKEN}/rotate"),
)
def test_the_api_tokens(look: Page, pictures: Path) -> None:
    look.goto("/console/api-tokens")
    assert_at_any_width(look, pictures, "api-tokens")
    look.click("tbody a >> nth=-1")
    look.wait_for_url("**/console/api-tokens/*-*")
    assert_for_everybody(look, pictures, "api-token")
    look.goto("/console/api-tokens/new")
    look.fill("#user_id", "ada")
    look.click("main form button")
    look.wait_for_selector(".mistake")
    assert_for_everybody(look, pictures, "new-api-token-mistake")
    look.fill("#user_id", str(uuid4()))
    look.check("[name='audit:read']")
    look.click("main form button")
    for name in ("api-token-secret", "api-token-rotated"):
        hide(look, "secret", "api_live_" + "x" * 49)
        assert_for_everybody(look, pictures, name)
        leave(look)
        if name == "api-token-secret":
            look.click("form[action$='/rotate'] button")
    look.check("form[action$='/revoke'] [type='checkbox']")
    look.click("form[action$='/revoke'] button")
    look.wait_for_selector("main .good")


def ask_doctor(look: Page) -> None:
    """From the page of the system, which tells what the doctor finds then."""
    look.click("main .head a.button")
    look.wait_for_selector("caption:has-text('What the doctor finds')", state="attached")
    look.evaluate("() => scrollTo(0, 0)")


@visits("GET /console/system")
def test_the_system(look: Page, pictures: Path, seen: Seen) -> None:
    ask = {"Authorization": "Bearer nonsense"}
    assert seen.service.client.get("/gateway/nginx", headers=ask).status_code == 401
    look.goto("/console/system")
    assert_for_everybody(look, pictures, "system")
    ask_doctor(look)
    assert_for_everybody(look, pictures, "system-examined")
    with rebuild_held(seen.service):
        look.goto("/console/system")
        look.click(f"[aria-label='Rebuild {VIEW}']")
        look.wait_for_selector("main .good")
        seen.service.query(
            "UPDATE ledger.projection_rebuilds SET state = 'building', position = 25, target = 100,"
            " started_at = now() - interval '10 s', updated_at = now() WHERE finished_at IS NULL"
        )
        look.goto("/console/system")
        look.wait_for_selector("progress")
        assert_for_everybody(look, pictures, "system-rebuild")
    look.wait_for_selector(f"[aria-label='Rebuild {VIEW}']")  # the page looks again by itself


@contextmanager
def trouble(service: RunningService) -> Iterator[None]:
    """A view that cannot go on, one whose rebuild differs, and one of a release that has gone."""
    with stopped(service, "usage", CANNOT), failed(service, VIEW, DIFFERS):
        service.query(
            "INSERT INTO ledger.projection_positions (name, version, shape, role)"
            " VALUES ('usage', 999, 999, 'live')"
        )
        yield
        service.query("DELETE FROM ledger.projection_positions WHERE shape = 999")


@visits("GET /console/system", "POST /console/system/{name:str}/rebuild")
def test_the_system_in_trouble(look: Page, pictures: Path, seen: Seen) -> None:
    """With the doctor's word for it, and a command that comes too late."""
    with trouble(seen.service):
        look.goto("/console/system")
        assert_at_any_width(look, pictures, "system-trouble")
        ask_doctor(look)
        assert_at_any_width(look, pictures, "system-trouble-examined")
        with rebuild_held(seen.service):
            look.goto("/console/system")
            seen.service.query(
                "INSERT INTO ledger.projection_rebuilds (name, shape)"
                " SELECT name, shape FROM ledger.projection_positions"
                " WHERE name = %s AND role = 'live'",
                VIEW,
            )
            look.click(f"[aria-label='Rebuild {VIEW}']")
            look.wait_for_selector("main .bad")
            assert_for_everybody(look, pictures, "system-trouble-refused")


@visits(
    f"POST {ONE}/setup-link",
    "GET /console/setup/{token:str}/{code:str}",
    "POST /console/setup/{token:str}/{code:str}",
)
def test_the_setup_page(look: Page, pictures: Path, seen: Seen) -> None:
    id_ = create_token(look)
    token = f"/console/tokens/{id_}"
    look.goto(token)
    look.click("a[href='#setup-link']")
    assert_for_everybody(look, pictures, "dialog-setup-link")
    look.click("#setup-link button.primary")
    look.wait_for_selector("#link")
    link = look.inner_text("#link")
    hide(look, "link", "https://…")
    assert_for_everybody(look, pictures, "setup-link")
    look.check("[data-stored]")
    look.goto(link)
    assert_for_everybody(look, pictures, "setup")
    look.click("form button")
    look.wait_for_selector("#secret")
    secret = look.inner_text("#secret")
    hide(look, "secret", "scim_live_" + "x" * 49)
    assert_for_everybody(look, pictures, "setup-secret")
    look.check("[data-stored]")
    look.click("[data-reveal] form button")
    look.wait_for_selector("[data-waits]")
    assert_for_everybody(look, pictures, "setup-waits")
    admin, headers = ({"Authorization": f"Bearer {each}"} for each in (seen.secret, secret))
    networks = f"/scim-token/{id_}/networks"
    elsewhere = {"networks": ["192.0.2.0/24"]}
    assert seen.service.client.put(networks, headers=admin, json=elsewhere).status_code == 200
    assert seen.service.client.get("/gateway/nginx", headers=headers).status_code == 401
    look.wait_for_selector("main .bad")
    assert_for_everybody(look, pictures, "setup-refused")
    assert seen.service.client.delete(networks, headers=admin).status_code == 200
    assert seen.service.client.get("/gateway/nginx", headers=headers).status_code == 200
    look.goto(link)
    look.wait_for_selector("main .good")
    assert_for_everybody(look, pictures, "setup-connected")
    look.goto(link[:-1])
    assert_for_everybody(look, pictures, "setup-over")
    look.goto(token)
    revoke(look)


@pytest.mark.parametrize("width", [NARROW, 1280])
def test_the_secrets_where_no_base_url_is_known(
    chromium: Browser, seen: Seen, pictures: Path, width: int
) -> None:
    with running_service(seen.service.database) as started:
        context = chromium.new_context(
            base_url=started.url, viewport={"width": width, "height": 800}
        )
        page = context.new_page()
        sign_in(page, seen.secret)
        page.goto(f"/console/tokens/{create_token(page)}")
        page.click("a[href='#rotate']")
        page.click("#rotate button")
        assert_at_any_width(page, pictures, "reveal-no-base")
        leave(page)
        revoke(page)
        token = f"/console/tokens/{create_token(page)}"
        page.goto(token)
        page.click("a[href='#setup-link']")
        page.click("#setup-link button.primary")
        page.goto(page.inner_text("#link"))
        assert_at_any_width(page, pictures, "setup-no-base")
        page.click("form button")
        page.wait_for_selector("#secret")
        assert_at_any_width(page, pictures, "setup-secret-no-base")
        page.check("[data-stored]")
        page.goto(token)
        revoke(page)
        context.close()

"""What a page of the console leaves to the garbage collector: nothing."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.api.left_behind.service import A_FEW, Answer, World, ask, left_by, world_on
from tests.api.server.serving import connect
from tests.conftest import catch_up, new_database
from tests.raw_http import request
from tests.turns import by_turns

TIMES: Final = 6
SAME_ORIGIN: Final = "Sec-Fetch-Site: same-origin"
_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
_COOKIE: Final = re.compile(r"set-cookie: ([^;]+)", re.IGNORECASE)
ONE: Final = "/console/tokens/{id}"
PAGES: Final = (
    "/console/tokens",
    ONE,
    "/console/tokens/new",
    "/console/audit",
    "/console/api-tokens",
    "/console/api-tokens/new",
    "/console/system",
    "/console/none",
)


class Sent(NamedTuple):
    """status: of the answer. of: the page whose form it is."""

    status: int
    path: str
    of: str | None
    fields: Mapping[str, str] = MappingProxyType({})


FORMS: Final = {
    "a creation": Sent(
        200,
        "/console/tokens/new",
        "/console/tokens/new",
        {"team_id": str(uuid4()), "name": "Okta"},
    ),
    "a creation that is wrong": Sent(
        400, "/console/tokens/new", "/console/tokens/new", {"team_id": "x", "name": ""}
    ),
    "a change": Sent(303, f"{ONE}/change", ONE, {"name": "Entra"}),
    "a rotation that is wrong": Sent(400, f"{ONE}/rotate", ONE, {"overlap": "x"}),
    "a sign-in that fails": Sent(401, "/console/sign-in", None, {"token": "garbage"}),
}


class Browser(NamedTuple):
    """Somebody who is signed in."""

    world: World
    cookie: str

    def see(self, path: str) -> Answer:
        return self._ask(request("GET", path.format(id=self.world.token_id), self.cookie))

    def send(self, form: Sent) -> int:
        page = "" if form.of is None else self.see(form.of).body
        hidden = {name: unescape(value) for name, value in _HIDDEN.findall(page)}
        path = form.path.format(id=self.world.token_id)
        body = urlencode({**hidden, **form.fields})
        return self._ask(request("POST", path, self.cookie, SAME_ORIGIN, form=body)).status

    def _ask(self, question: bytes) -> Answer:
        with connect(self.world.address) as client:
            return ask(client, question)


@pytest.fixture(scope="module")
def browser(server: str) -> Iterator[Browser]:
    with new_database(server) as database, world_on(database) as world:
        catch_up(database)
        form = urlencode({"token": world.secrets["admin"]})
        with connect(world.address) as client:
            entered = ask(client, request("POST", "/console/sign-in", SAME_ORIGIN, form=form))
        found = _COOKIE.search(entered.head)
        assert found is not None
        made = Browser(world, f"Cookie: {found[1]}")
        made.see("/console/none")  # the first use of the session is an event of its own
        catch_up(database)
        yield made


@pytest.mark.parametrize("path", by_turns(PAGES, one_of=4))
def test_a_page(browser: Browser, path: str) -> None:
    catch_up(browser.world.database)
    answers: set[int] = set()
    left = left_by(lambda: answers.add(browser.see(path).status), times=TIMES)
    assert answers == {404 if path.endswith("none") else 200}
    assert left.to_collector < A_FEW


@pytest.mark.parametrize("name", by_turns(FORMS, one_of=3))
def test_a_form(browser: Browser, name: str) -> None:
    form = FORMS[name]
    catch_up(browser.world.database)
    answers: set[int] = set()

    def send() -> None:
        answers.add(browser.send(form))
        catch_up(browser.world.database)

    left = left_by(send, times=TIMES)
    assert answers == {form.status}
    assert left.to_collector < A_FEW

"""The list of tokens: what it shows, narrowed by what, in how many bytes and statements."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import Litestar

from api.app import build
from api.console.cookie import LOOPBACK
from api.http.parameters import _parameters
from api.settings import Settings
from domain.api_token.permissions import Permission
from tests.console.browsing import SAME_ORIGIN, Visitor, hidden
from tests.service import PEPPER_KEY, Caller, RunningService
from tests.turns import by_turns

T = TypeVar("T")
READ: Final = Permission.SCIM_TOKENS_READ
PAGE_MAX: Final = 40_000
NAMES: Final = re.compile(
    r'<th scope="row"><a [^>]*href="/console/tokens/[0-9a-f-]{36}">([^<]*)</a>'
)
MANY: Final = 60
TIMES: Final = 4


def names(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return [unescape(name) for name in NAMES.findall(page.text)]


def create(
    service: RunningService, admin: Caller, team: UUID, name: str, **more: Any
) -> dict[str, Any]:
    body = {"team_id": str(team), "name": name, **more}
    answer = service.client.post("/scim-token", json=body, auth=admin)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def present(service: RunningService, secret: str, *, agent: str = "Okta SCIM Client 1.0.0") -> None:
    headers = {"Authorization": f"Bearer {secret}", "User-Agent": agent}
    assert service.client.get("/gateway/nginx", headers=headers).status_code == 200


@pytest.fixture(scope="module")
def crowd(service: RunningService, admin: Caller) -> UUID:
    """A team with many tokens, each rotating, ending and used: a page is as full as it gets."""
    team = uuid4()
    ends = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="milliseconds")
    for number in range(MANY):
        made = create(service, admin, team, f"{number:02} " + "&" * 240, expires_at=ends)
        present(service, made["token"])
        service.client.post(f"/scim-token/{made['id']}/rotate", json={}, auth=admin)
    return team


def test_the_newest_come_first_and_older_ones_behind_a_link(visitor: Visitor, crowd: UUID) -> None:
    path, seen = f"/console/tokens?team={crowd}", list[str]()
    while path:
        page = visitor.see(path)
        seen += names(page)
        (path,) = re.findall(r'<a href="([^"]*)" rel="next">', page.text) or [""]
        path = unescape(path)
    assert [name[:2] for name in seen] == [f"{number:02}" for number in reversed(range(MANY))]


def test_a_full_page_is_small(visitor: Visitor, crowd: UUID) -> None:
    page = visitor.see("/console/tokens", team=str(crowd))
    assert len(names(page)) == 25
    assert page.text.count('class="spark"') == 25
    assert len(page.content) < PAGE_MAX


def test_of_many_that_would_be_revoked_a_part_is_shown_and_the_others_are_counted(
    visitor: Visitor, crowd: UUID
) -> None:
    page = visitor.see("/console/tokens/revoke", team=str(crowd))
    assert f"{MANY} tokens would be revoked" in page.text
    shown = names(page)
    assert f"And {MANY - len(shown)} more." in page.text
    assert len(page.content) < PAGE_MAX


@pytest.mark.parametrize(
    ("query", "left"),
    by_turns(
        [
            ({}, ["d", "c", "b", "a"]),
            ({"name": "b"}, ["b"]),
            ({"state": "suspended"}, ["d"]),
            ({"state": "rotating"}, ["c"]),
            ({"state": "revoked"}, ["e"]),
            ({"state": "all"}, ["e", "d", "c", "b", "a"]),
            ({"state": "expired"}, []),
            ({"use": "never"}, ["d", "c", "b"]),
            ({"use": "30"}, []),
            ({"use": "new"}, []),
            ({"ends": "7"}, ["b"]),
            ({"ends": "30"}, ["c", "b"]),
            ({"name": " b ", "use": "", "ends": ""}, ["b"]),
        ],
        one_of=3,
    ),
)
def test_the_query_narrows(
    visitor: Visitor, variety: UUID, query: dict[str, str], left: list[str]
) -> None:
    assert names(visitor.see("/console/tokens", team=str(variety), **query)) == left


@pytest.fixture(scope="module")
def variety(service: RunningService, admin: Caller) -> UUID:
    """A team with a token of each kind."""
    team = uuid4()

    def in_days(days: int) -> str:
        return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")

    present(service, create(service, admin, team, "a")["token"])
    create(service, admin, team, "b", expires_at=in_days(5))
    made = create(service, admin, team, "c", expires_at=in_days(20))
    service.client.post(f"/scim-token/{made['id']}/rotate", json={}, auth=admin)
    made = create(service, admin, team, "d", expires_at=in_days(80))
    service.client.post(f"/scim-token/{made['id']}/suspend", auth=admin)
    made = create(service, admin, team, "e")
    service.client.delete(f"/scim-token/{made['id']}", auth=admin)
    return team


def test_a_row_says_how_its_token_stands(visitor: Visitor, variety: UUID) -> None:
    page = visitor.see("/console/tokens", team=str(variety), state="all").text
    for state in ("active", "rotating", "suspended", "revoked"):
        assert f'<span class="state {state}">{state}</span>' in page
    assert re.search(r'<span class="badge urgent" title="[^"]+ UTC">in 4 days</span>', page)
    assert re.search(r'<span class="badge soon" title="[^"]+ UTC">in 19 days</span>', page)
    assert re.search(r'aria-label="1 use in 30 days, most on [^"]+: 1"', page)
    assert 'aria-label="No use in 30 days"' in page


@pytest.mark.parametrize(
    "query",
    by_turns(
        [{"team": "x"}, {"created_by": "x"}, {"state": "x"}, {"use": "x"}, {"ends": "x"}], one_of=3
    ),
)
def test_what_is_no_filter_is_told_beside_it(visitor: Visitor, query: dict[str, str]) -> None:
    page = visitor.see("/console/tokens", **query)
    assert page.status_code == 400
    (field,) = query
    assert f'aria-invalid="true" aria-describedby="{field}-wrong"' in page.text


def test_a_cursor_of_another_list_is_refused(visitor: Visitor, crowd: UUID) -> None:
    page = visitor.see("/console/tokens", team=str(crowd))
    (older,) = re.findall(r'<a href="([^"]*)" rel="next">', page.text)
    cursor = unescape(older).partition("after=")[2]
    assert visitor.see("/console/tokens", after=cursor).status_code == 400


def test_who_may_only_read_tokens_sees_no_charts_and_no_commands(
    service: RunningService, crowd: UUID
) -> None:
    with Visitor(service.url) as reader:
        reader.sign_in(service.api_token(READ, teams=[crowd]).secret)
        page = reader.see("/console/tokens").text
    assert "spark" not in page
    assert "New token" not in page
    assert "checkbox" not in page


def asked_for(service: RunningService, secret: str, path: str, statements: list[T]) -> list[T]:
    """The statements of a page, once its process knows where the views are.

    The fewest of a few times: while a view is behind, its statement is asked again.
    """

    async def ask() -> list[T]:
        edge = build(Settings(database_url=service.database.app, pepper=PEPPER_KEY))
        transport = httpx.ASGITransport(app=cast("Any", edge))
        cookies = {LOOPBACK: secret}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", cookies=cookies
        ) as client:
            assert (await client.get(path)).status_code == 200
            asked = []
            for _ in range(TIMES):
                statements.clear()
                assert (await client.get(path)).status_code == 200
                asked.append(list(statements))
        await edge._service.ledger.aclose()
        return min(asked, key=len)

    return asyncio.run(ask())


def test_a_page_takes_three_statements_however_full_it_is(
    service: RunningService, visitor: Visitor, crowd: UUID, statements: list[str]
) -> None:
    secret = visitor.client.cookies[LOOPBACK]
    assert len(asked_for(service, secret, f"/console/tokens?team={crowd}", statements)) == 3
    page = visitor.see("/console/tokens", team=str(crowd)).text
    (one, *_) = re.findall(r'href="(/console/tokens/[0-9a-f-]{36})"', page)
    assert len(asked_for(service, secret, one, statements)) == 3
    assert len(asked_for(service, secret, "/console/tokens/new", statements)) == 1


# Whatever is sent

HOSTILE: Final = (
    *("a\0b", "\ud800", "\u202e", "'\"><script>", "\r\nX: y", "%"),
    *("9" * 5000, "-1", "\u0663" * 32, "2026-02-30", "::1%\0/\0"),
)
_FORM: Final = re.compile(r'<form method="post"(?: action="([^"]*)")?(.*?)</form>', re.DOTALL)
_FIELD: Final = re.compile(r'<(?:input|select|textarea)[^>]*? name="([^"]+)"')


_PARTS: Final = 4
IN_PARTS: Final = pytest.mark.parametrize("part", by_turns(range(_PARTS), one_of=_PARTS))
"""Every place in each part, and in each part every text at some place."""


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def pages() -> Iterator[tuple[str, str]]:
    """The address of each page of the console, and each parameter of its query."""
    settings = Settings(database_url="host=/nowhere dbname=none", pepper=PEPPER_KEY)
    admin = build(settings)._admin
    assert isinstance(admin, Litestar)
    for route in admin.routes:
        for handler in getattr(route, "route_handlers", ()):
            if route.path.startswith("/console") and handler.http_methods == {"GET"}:
                for name in _parameters(handler):
                    yield route.path_format, name


@IN_PARTS
def test_no_text_in_a_query_is_a_fault(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID, part: int
) -> None:
    id_ = create(service, admin, team, "Okta")["id"]
    asked = [(re.sub("{[^}]+}", id_, path), name) for path, name in pages()]
    assert len(asked) > 20
    texts = (*map(encoded, HOSTILE), "%FF", "%ED%A0", "+")
    for place, (path, name) in enumerate(asked):
        for value in texts[(place + part) % _PARTS :: _PARTS]:
            answer = visitor.client.get(f"{path}?{name}={value}")
            assert answer.status_code < 500, (path, name, value)


def test_a_name_that_no_token_can_have_is_told_beside_its_field(visitor: Visitor) -> None:
    page = visitor.see("/console/tokens", name="a\0b")
    assert page.status_code == 400
    assert '<p class="mistake" id="name-wrong">must not hold control characters</p>' in page.text


def forms_of(visitor: Visitor, path: str) -> Iterator[tuple[str, dict[str, str], set[str]]]:
    """Where each form of a page is sent, what it sends without being asked, and its fields."""
    page = visitor.see(path)
    assert page.status_code == 200, path
    for action, form in _FORM.findall(page.text):
        if not action.endswith("/sign-out"):
            yield unescape(action) or path, hidden(page), set(_FIELD.findall(form))


@IN_PARTS
def test_no_text_in_a_form_is_a_fault(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID, part: int
) -> None:
    token = create(service, admin, team, "Okta")
    api_token = service.api_token(READ)
    link = service.client.post(f"/scim-token/{token['id']}/setup-link", auth=admin).json()["url"]
    good = {"name": "Okta", "team_id": str(team), "user_id": str(team), READ: "yes"}
    found = [
        form
        for path in (
            *("/console/tokens/new", "/console/api-tokens/new", f"/console/tokens/{token['id']}"),
            *(f"/console/api-tokens/{api_token.id}", link.removeprefix(service.url)),
            *(f"/console/tokens/revoke?team={team}", "/console/sign-in"),
        )
        for form in forms_of(visitor, path)
    ]
    form_headers = SAME_ORIGIN | {"Content-Type": "application/x-www-form-urlencoded"}
    places = [(*form, field) for form in found for field in sorted(form[2])]
    for place, (action, given, fields, field) in enumerate(places):
        known = {name: value for name, value in good.items() if name in fields} | given
        for value in HOSTILE[(place + part) % _PARTS :: _PARTS]:
            sent = known | {field: value}
            body = "&".join(f"{name}={encoded(text)}" for name, text in sent.items())
            answer = visitor.client.post(action, content=body, headers=form_headers)
            assert answer.status_code < 500, (action, field, value)
    assert {"name", "reason", "teams", "user_id", "token"} <= set().union(*(f for _, _, f in found))


@pytest.mark.parametrize("asked", [{}, {"name": "Okta"}, {"state": "suspended"}])
def test_that_no_token_is_active_is_not_told_as_if_there_were_none(
    service: RunningService, admin: Caller, asked: dict[str, str]
) -> None:
    team = uuid4()
    token = create(service, admin, team, "Okta")
    assert service.client.delete(f"/scim-token/{token['id']}", auth=admin).status_code == 200
    with Visitor(service.url) as visiting:
        visiting.sign_in(service.api_token(teams=[team]).secret)
        page = visiting.see("/console/tokens", **asked)
        assert names(page) == []
        assert "No token yet" not in page.text
        if "state" in asked:
            assert "No token is like that." in page.text
            return
        assert "No active token" in page.text
        (any_state,) = re.findall(r'<a href="(\S+state=all)">', page.text)
        assert names(visiting.see(unescape(any_state))) == ["Okta"]


@pytest.mark.parametrize("permissions", [[READ], [READ, Permission.SCIM_TOKENS_WRITE]])
def test_only_who_may_create_a_token_is_told_to(
    service: RunningService, permissions: list[Permission]
) -> None:
    with Visitor(service.url) as visiting:
        visiting.sign_in(service.api_token(*permissions, teams=[uuid4()]).secret)
        page = visiting.see("/console/tokens").text
        assert ("Create one" in page) == ("New token" in page) == (len(permissions) > 1)

"""From which networks a token is good: what its page tells, sets, lifts and refuses."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any, Final
from uuid import UUID

import pytest

from api.console.pages.token import NETWORKS_SHOWN
from domain.api_token.permissions import Permission
from domain.scim_token.networks.decide import NETWORKS_MAX
from tests.console.browsing import Visitor, hidden
from tests.console.test_token import at, do, words
from tests.console.test_tokens import create
from tests.service import Caller, RunningService

ELSEWHERE: Final = "198.51.100.0/24"
HERE: Final = "127.0.0.0/8"
MANY: Final = [f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{number:x}/128" for number in range(1000, 1200)]
DIALOG: Final = re.compile(r'<dialog id="allow-networks"( open)?[^>]*>(.*?)</dialog>', re.DOTALL)
TYPED: Final = re.compile(r"<textarea[^>]*>(.*?)</textarea>", re.DOTALL)
OUTSIDE: Final = "outside its networks"
NONE: Final = "must name one at least; from none, nobody would be let in"


@pytest.fixture
def token(service: RunningService, admin: Caller, team: UUID) -> dict[str, Any]:
    return create(service, admin, team, "Okta")


def allow(visitor: Visitor, token: dict[str, Any], *networks: str) -> str:
    return do(visitor, token, "allow-networks", networks="\n".join(networks))


def shown(page: str) -> list[str]:
    """The networks that are told, but those in the form."""
    part = page.partition('aria-labelledby="networks"')[2].partition("</section>")[0]
    return re.findall(r"<li><code>(.*?)</code>", part)


def typed(page: str) -> str:
    """What stands in the form."""
    (text,) = TYPED.findall(page)
    return unescape(text)


def mistake(page: str) -> str | None:
    """What is told beside the field of the form, which is open then."""
    ((is_open, inside),) = DIALOG.findall(page)
    told = re.findall(r'<p class="mistake" id="allow-networks-about"[^>]*>(.*?)</p>', inside)
    assert bool(is_open) == bool(told) == ("aria-invalid" in inside)
    return unescape(told[0]) if told else None


def answered(service: RunningService, token: dict[str, Any]) -> int:
    """At SCIM's own door, from 127.0.0.1."""
    headers = {"Authorization": f"Bearer {token['token']}"}
    return service.client.get("/scim/v2/Users", headers=headers).status_code


def recorded(service: RunningService, token: dict[str, Any]) -> int:
    ((count,),) = service.query(
        "SELECT count(*) FROM ledger.events WHERE originator_id = %s", token["id"]
    )
    return int(count)


def test_it_is_let_in_from_these_alone_and_from_anywhere_again(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    page = visitor.see(at(token)).text
    assert "Good from anywhere." in page
    assert "allow-any-network" not in page
    page = do(visitor, token, "allow-networks", networks=ELSEWHERE, reason="their office")
    assert "Good from its networks alone, everywhere, from now on." in page
    assert (shown(page), typed(page)) == ([ELSEWHERE], ELSEWHERE)
    assert answered(service, token) == 401
    page = words(visitor.see(at(token)).text)
    assert f"because “their office”: {ELSEWHERE}" in page
    assert "Refused" in page
    assert "(network)" in page
    page = do(visitor, token, "allow-any-network", reason="they moved")
    assert "Good from anywhere again." in page
    assert "because “they moved”: any network" in words(page)
    assert (shown(page), typed(page)) == ([], "")
    assert answered(service, token) == 501


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", ",", ", ", "\t", " ,\n\n "])
def test_they_stand_a_line_each_or_are_separated(
    visitor: Visitor, token: dict[str, Any], between: str
) -> None:
    given = between.join(["", "192.0.2.7", "2001:DB8::/32", "192.0.2.7/32", ""])
    page = do(visitor, token, "allow-networks", networks=given)
    assert shown(page) == ["192.0.2.7/32", "2001:db8::/32"]
    assert typed(page).split("\n") == shown(page)


@pytest.mark.parametrize(
    ("networks", "told"),
    [
        ("", NONE),
        (" \r\n\t", NONE),
        (", ,", NONE),
        (f"{HERE}\n192.0.2.7/24", "“192.0.2.7/24” has bits beyond its length"),
        (f"{HERE}, their <b>office", "“their” must be a network or an address"),
        ("'\"><script>", "“'\"><script>” must be a network"),
        ("x" * 5000, f"“{'x' * 60}…” must be a network"),
        ("\n".join([*MANY, HERE]), f"must be {NETWORKS_MAX} at most"),
    ],
)
def test_a_mistake_is_told_beside_the_field_and_what_was_typed_stays(
    service: RunningService, visitor: Visitor, token: dict[str, Any], networks: str, told: str
) -> None:
    """An empty field, too, which never means anywhere."""
    allow(visitor, token, ELSEWHERE)
    count = recorded(service, token)
    given = hidden(visitor.see(at(token)))
    answer = visitor.send(at(token, "allow-networks"), {**given, "networks": networks})
    assert answer.status_code == 400
    assert (mistake(answer.text) or "").startswith(told)
    if networks.strip():
        assert typed(answer.text) == networks.strip()
    assert shown(answer.text) == [ELSEWHERE]
    assert "A value is not valid." not in answer.text
    assert recorded(service, token) == count


def test_another_mistake_is_told_above_and_what_was_typed_stays(
    visitor: Visitor, token: dict[str, Any]
) -> None:
    given = {**hidden(visitor.see(at(token))), "networks": HERE, "reason": "x" * 201}
    answer = visitor.send(at(token, "allow-networks"), given)
    assert answer.status_code == 400
    assert "reason must be" in words(answer.text)
    assert mistake(answer.text) is None
    assert typed(answer.text) == HERE
    assert shown(answer.text) == []


def test_who_may_read_is_told_from_where_and_given_no_form(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    allow(visitor, token, HERE, ELSEWHERE)
    with Visitor(service.url) as reader:
        reader.sign_in(service.api_token(Permission.SCIM_TOKENS_READ).secret)
        page = reader.see(at(token)).text
    assert shown(page) == [HERE, ELSEWHERE]
    assert "<textarea" not in page
    assert "allow-any-network" not in page


def test_of_a_revoked_token_they_are_told_and_there_is_no_form(
    visitor: Visitor, token: dict[str, Any]
) -> None:
    allow(visitor, token, HERE, ELSEWHERE)
    form = {**hidden(visitor.see(at(token))), "networks": HERE}
    page = do(visitor, token, "revoke", anyway="yes")
    assert shown(page) == [HERE, ELSEWHERE]
    assert "<textarea" not in page
    for command in ("allow-networks", "allow-any-network"):
        assert visitor.send(at(token, command), form).status_code == 404


@pytest.mark.parametrize(
    ("networks", "is_outside"),
    [((), False), ((HERE,), False), ((ELSEWHERE,), True), ((ELSEWHERE, "127.0.0.1"), False)],
)
def test_who_would_not_be_let_in_any_more_is_marked(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    networks: tuple[str, ...],
    is_outside: bool,
) -> None:
    assert answered(service, token) == 501
    if networks:
        allow(visitor, token, *networks)
    assert (OUTSIDE in visitor.see(at(token)).text) == is_outside


@pytest.mark.parametrize("networks", [(), (HERE,)])
def test_whose_address_is_not_known_is_in_no_network(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    networks: tuple[str, ...],
) -> None:
    """A gateway that hands no address on."""
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert service.client.get("/gateway/nginx", headers=headers).status_code == 200
    if networks:
        allow(visitor, token, *networks)
    page = visitor.see(at(token)).text
    assert "unknown" in page
    assert (OUTSIDE in page) == bool(networks)
    status = service.client.get("/gateway/nginx", headers=headers).status_code
    assert status == (401 if networks else 200)


@pytest.mark.parametrize("count", [1, NETWORKS_SHOWN, NETWORKS_SHOWN + 1, NETWORKS_MAX])
def test_of_many_the_first_are_told_and_all_are_in_the_form(
    visitor: Visitor, token: dict[str, Any], count: int
) -> None:
    page = allow(visitor, token, *MANY[:count])
    assert shown(page) == MANY[: min(count, NETWORKS_SHOWN)]
    assert typed(page) == "\n".join(MANY[:count])
    more = f"And {count - NETWORKS_SHOWN} more. All of them: "
    assert (more in words(page)) == (count > NETWORKS_SHOWN)
    assert len(page.encode()) <= 40 * 1024


def test_they_hold_for_every_secret_of_the_token(visitor: Visitor, token: dict[str, Any]) -> None:
    allow(visitor, token, HERE, ELSEWHERE)
    rotated = visitor.send(at(token, "rotate"), hidden(visitor.see(at(token))))
    assert rotated.status_code == 200
    assert shown(visitor.see(at(token)).text) == [HERE, ELSEWHERE]


@pytest.mark.parametrize("command", ["allow-networks", "allow-any-network"])
def test_what_a_colleague_set_since_is_not_undone(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    command: str,
    colleague: Callable[..., Any],
) -> None:
    allow(visitor, token, HERE)
    form = {**hidden(visitor.see(at(token))), "networks": "192.0.2.0/24"}
    colleague(ELSEWHERE)
    count = recorded(service, token)
    refused = visitor.send(at(token, command), form)
    assert refused.status_code == 400
    told = "another set of networks is allowed than the one that was meant; nothing was done"
    assert told in words(refused.text)
    assert shown(refused.text) == [ELSEWHERE]
    assert typed(refused.text) == "192.0.2.0/24"
    assert recorded(service, token) == count
    again = {**form, **hidden(refused)}
    assert visitor.send(at(token, command), again).status_code == 303
    assert recorded(service, token) == count + 1


@pytest.fixture
def colleague(service: RunningService, token: dict[str, Any]) -> Callable[..., Any]:
    """Sets the networks in another window."""

    def set_(*networks: str) -> None:
        with Visitor(service.url) as other:
            other.sign_in(service.api_token().secret)
            allow(other, token, *networks)

    return set_


def test_a_form_that_is_sent_twice_is_one_command(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    colleague: Callable[..., Any],
) -> None:
    """Also after a colleague has set others, which its second sending does not undo."""
    form = {**hidden(visitor.see(at(token))), "networks": HERE}
    for _ in range(2):
        assert visitor.send(at(token, "allow-networks"), form).status_code == 303
    colleague(ELSEWHERE)
    count = recorded(service, token)
    assert visitor.send(at(token, "allow-networks"), form).status_code == 303
    assert recorded(service, token) == count
    assert shown(visitor.see(at(token)).text) == [ELSEWHERE]

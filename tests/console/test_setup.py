"""The setup page: opened by a link, without an account, it shows one secret, once."""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api.resources.scim_token.networks.asking import allow
from tests.console.browsing import (
    BASE_URL,
    SAME_ORIGIN,
    Visitor,
    assert_guarded,
    hidden,
    secrets_in,
)
from tests.console.test_tokens import create
from tests.service import Caller, RunningService, running_service
from tests.turns import by_turns

PREVIEWERS = ("Slackbot-LinkExpanding 1.0", "Mozilla/5.0 (compatible; MSIE 7.0; SafeLinks)")


@pytest.fixture
def contact(service: RunningService) -> Iterator[Visitor]:
    """Somebody without an account."""
    with Visitor(service.url) as visiting:
        yield visiting


def linked(service: RunningService, admin: Caller, **fields: object) -> tuple[dict[str, str], str]:
    """A token, and the path of a link that hands it over."""
    token = create(service, admin, uuid4(), str(fields.get("name", "Acme, Okta")))
    return token, link_of(service, admin, token["id"])


def link_of(service: RunningService, admin: Caller, id_: object) -> str:
    made = service.client.post(f"/scim-token/{id_}/setup-link", auth=admin).json()
    return str(made["url"]).removeprefix(service.url)


@pytest.mark.parametrize("host", ["", "Host:\r\n"], ids=["no Host", "an empty one"])
def test_whoever_names_no_host_is_told_the_one_that_they_reached(
    service: RunningService, admin: Caller, host: str
) -> None:
    address = urlsplit(service.url)
    token = create(service, admin, uuid4(), "Okta")
    head = (
        f"POST /scim-token/{token['id']}/setup-link HTTP/1.0\r\n{host}"
        f"Authorization: Bearer {admin.secret}\r\n\r\n"
    )
    with closing(socket.create_connection((address.hostname, address.port), 5)) as client:
        client.sendall(head.encode())
        answer = client.makefile("rb").read()
    assert f'"url":"{service.url}/console/setup/'.encode() in answer


def lets_in(service: RunningService, secret: str) -> bool:
    headers = {"Authorization": f"Bearer {secret}"}
    return service.client.get("/gateway/nginx", headers=headers).status_code == 200


def told(answer: httpx.Response) -> str:
    """A page without what differs from request to request."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", answer.text)


def test_the_contact_presses_sees_the_secret_and_then_that_it_works(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    token, link = linked(service, admin)
    page = contact.see(link)
    assert page.status_code == 200
    assert_guarded(page)
    for text in ("Acme, Okta", BASE_URL, "In Okta", "In Microsoft Entra ID"):
        assert text in page.text
    assert not secrets_in(page.text)

    shown = contact.send(link, {})
    assert shown.status_code == 200
    assert_guarded(shown)
    (secret,) = secrets_in(shown.text)
    assert not lets_in(service, token["token"]), "whoever made the token saw that one"

    after = contact.see(link)
    assert "Not yet." in after.text
    assert "data-waits" in after.text
    assert not secrets_in(after.text)
    assert lets_in(service, secret)
    page = contact.see(link)
    assert "Yes, it is connected." in page.text
    assert "data-waits" not in page.text
    assert secret not in service.log.read_text()
    assert link.rpartition("/")[2] not in service.log.read_text()


def test_it_shows_once(service: RunningService, admin: Caller, contact: Visitor) -> None:
    _, link = linked(service, admin)
    (secret,) = secrets_in(contact.send(link, {}).text)
    again = contact.send(link, {})
    assert (again.status_code, again.headers["location"]) == (303, link)
    assert not secrets_in(again.text)
    assert lets_in(service, secret)


def test_only_a_use_of_that_secret_is_a_call(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    """The token was in use before: its older secret goes on, and says nothing of the new one."""
    token = create(service, admin, uuid4(), "in use")
    assert lets_in(service, token["token"])
    link = link_of(service, admin, token["id"])
    (secret,) = secrets_in(contact.send(link, {}).text)
    assert lets_in(service, token["token"])
    assert "Not yet." in contact.see(link).text
    assert lets_in(service, secret)
    assert "Yes, it is connected." in contact.see(link).text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"source": "198.51.100.7"}, "from <code>198.51.100.7</code>"),
        ({}, "from an address that is not known here"),
    ],
)
def test_a_call_from_another_network_is_told_while_it_would_be_refused(
    service: RunningService,
    admin: Caller,
    contact: Visitor,
    source: Mapping[str, str],
    told: str,
) -> None:
    """The contact would wait for a call that has come, and cannot see the trail."""

    def call(**source: str) -> bool:
        asked = {"token": secret, **source}
        return bool(service.client.post("/introspect", auth=admin, data=asked).json()["active"])

    token, link = linked(service, admin)
    assert allow(service, admin, token["id"], "192.0.2.0/24", "2001:db8::/32").status_code == 200
    (secret,) = secrets_in(contact.send(link, {}).text)
    assert "Not yet." in contact.see(link).text
    assert not call(**source)
    page = contact.see(link).text
    assert "A call was refused." in page
    assert told in page
    assert "data-waits" in page
    assert "Not yet." not in page
    assert allow(service, admin, token["id"], "198.51.100.0/24").status_code == 200
    assert ("Not yet." in contact.see(link).text) == bool(source)
    assert call(source="198.51.100.9")
    assert "Yes, it is connected." in contact.see(link).text


def test_what_another_secret_of_the_token_meets_is_not_told(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    token = create(service, admin, uuid4(), "in use")
    assert lets_in(service, token["token"])
    link = link_of(service, admin, token["id"])
    assert allow(service, admin, token["id"], "192.0.2.0/24").status_code == 200
    assert secrets_in(contact.send(link, {}).text)
    assert not lets_in(service, token["token"])
    assert "Not yet." in contact.see(link).text


@pytest.mark.parametrize("agent", PREVIEWERS)
def test_a_previewer_spends_nothing(
    service: RunningService, admin: Caller, contact: Visitor, agent: str
) -> None:
    _, link = linked(service, admin)
    for ask in (contact.client.get, contact.client.head):
        assert ask(link, headers={"User-Agent": agent}).status_code == 200
    assert len(secrets_in(contact.send(link, {}).text)) == 1


@pytest.mark.parametrize(
    "query",
    ["utm_source=mail&utm_medium=mail", "a=1&a=2", "=", "%ff=%00", "token=x&code=y", "?&"],
)
def test_what_a_mail_adds_to_the_link_is_left_alone(
    service: RunningService, admin: Caller, contact: Visitor, query: str
) -> None:
    _, link = linked(service, admin)
    page = contact.see(f"{link}?{query}")
    assert page.status_code == 200
    assert f'action="{link}"' in page.text
    assert len(secrets_in(contact.send(f"{link}?{query}", {}).text)) == 1


@pytest.mark.parametrize("more", ["/", "/x", "//"])
@pytest.mark.parametrize("headers", [{}, SAME_ORIGIN])
def test_no_problem_leads_a_contact_to_the_console(
    service: RunningService,
    admin: Caller,
    contact: Visitor,
    headers: dict[str, str],
    more: str,
) -> None:
    """Which a gateway in front need not publish, and where nobody outside has an account."""
    _, link = linked(service, admin)
    refused = contact.client.post(link if not headers else link + more, headers=headers)
    assert refused.status_code in {403, 404}
    assert 'href="/console"' not in refused.text
    if refused.headers["content-type"].startswith("text/html"):
        assert "tell whoever sent it to you" in refused.text


def test_the_end_that_is_told_is_the_token_s_where_that_comes_first(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    token, link = linked(service, admin)
    end = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    changed = service.client.patch(
        f"/scim-token/{token['id']}", auth=admin, json={"expires_at": end.isoformat()}
    )
    assert changed.status_code == 200
    told_end = f"{end:%Y-%m-%d %H:%M:%S} UTC"
    assert told_end in contact.see(link).text
    contact.send(link, {})
    assert told_end in contact.see(link).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
    ],
)
def test_no_other_page_presses_the_button(
    service: RunningService, admin: Caller, contact: Visitor, headers: dict[str, str]
) -> None:
    _, link = linked(service, admin)
    refused = contact.client.post(link, headers=headers)
    assert refused.status_code == 403
    assert not secrets_in(refused.text)
    assert contact.client.post(link, headers=SAME_ORIGIN).status_code == 200


def test_what_opens_nothing_looks_the_same(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    token, link = linked(service, admin)
    other, _ = linked(service, admin)
    code = link.rpartition("/")[2]
    root = "/console/setup"
    ended, ended_link = linked(service, admin)
    service.client.delete(f"/scim-token/{ended['id']}/setup-link", auth=admin)
    revoked, revoked_link = linked(service, admin)
    service.client.delete(f"/scim-token/{revoked['id']}", auth=admin)
    replaced, replaced_link = linked(service, admin)
    link_of(service, admin, replaced["id"])
    paths = [
        f"{root}/{uuid4()}/{code}",
        f"{root}/{other['id']}/{code}",
        f"{root}/{token['id']}/{code[:-1]}{'a' if code[-1] != 'a' else 'b'}",
        f"{root}/{token['id']}/short",
        f"{root}/no-id/{code}",
        *(ended_link, revoked_link, replaced_link),
    ]
    answers = [ask(path) for path in paths for ask in (contact.see, lambda p: contact.send(p, {}))]
    assert {answer.status_code for answer in answers} == {404}
    assert len({told(answer) for answer in answers}) == 1
    for answer in answers:
        assert_guarded(answer)


def test_wrong_links_are_counted_as_failed_sign_ins_are(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    def counted() -> float:
        text = service.client.get("/metrics", auth=admin).text
        labels = r'door="api",outcome="\w+",reason="unknown"'
        sample = re.search(rf"authentications_total\{{{labels}\}} (\S+)", text)
        return 0 if sample is None else float(sample[1])

    before = counted()
    for _ in range(3):
        contact.see(f"/console/setup/{uuid4()}/{'x' * 43}")
    assert counted() == before + 3


def test_a_rotation_under_way_is_told_and_the_link_stays(
    service: RunningService, admin: Caller, contact: Visitor
) -> None:
    token = create(service, admin, uuid4(), "Okta")
    assert lets_in(service, token["token"])
    link = link_of(service, admin, token["id"])
    service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin)
    refused = contact.send(link, {})
    assert refused.status_code in {409, 429}
    assert "tell whoever sent you the link" in refused.text
    assert not secrets_in(refused.text)
    assert "Show the token" in contact.see(link).text


def test_an_administrator_makes_the_link_and_ends_it(
    service: RunningService, admin: Caller, visitor: Visitor, contact: Visitor
) -> None:
    token = create(service, admin, uuid4(), "Acme, Okta")
    at = f"/console/tokens/{token['id']}"
    page = visitor.see(at)
    assert "Hand over…" in page.text
    fields = {**hidden(page), "reason": "for their IT"}
    made = visitor.send(f"{at}/setup-link", fields)
    assert made.status_code == 200
    assert_guarded(made)
    (link,) = set(re.findall(r"/console/setup/[0-9a-f-]{36}/[0-9A-Za-z]{43}", made.text))
    assert contact.see(link).status_code == 200
    again = visitor.send(f"{at}/setup-link", fields)
    assert again.status_code == 409
    assert link not in again.text
    ended = visitor.send(f"{at}/end-setup-link", hidden(visitor.see(at)))
    assert ended.headers["location"] == f"{at}?done=end-setup-link"
    assert contact.see(link).status_code == 404
    history = visitor.see(at).text
    assert "because “for their IT”" in history
    assert link not in history


def test_a_token_that_cannot_be_handed_over_offers_no_link(
    service: RunningService, admin: Caller, visitor: Visitor
) -> None:
    id_ = UUID(str(create(service, admin, uuid4(), "Okta")["id"]))
    service.client.post(f"/scim-token/{id_}/suspend", auth=admin)
    at = f"/console/tokens/{id_}"
    page = visitor.see(at)
    assert "Hand over…" not in page.text
    refused = visitor.send(f"{at}/setup-link", hidden(page))
    assert refused.status_code == 400
    assert "suspended" in refused.text


UPSTREAM = {"SCIM_UPSTREAM_URL": "http://127.0.0.1:9/scim/v2"}
GATEWAY = {"SCIM_LEDGER_SCIM_BASE_URL": BASE_URL}
_BASE = re.compile(r'id="base"[^>]*>([^<]*)<')


@pytest.mark.parametrize(
    ("environment", "told"),
    by_turns(
        [
            ({}, None),
            (GATEWAY, BASE_URL),
            (UPSTREAM, "{url}/scim/v2"),
            (GATEWAY | UPSTREAM, BASE_URL),
        ],
        one_of=2,
    ),
)
def test_no_page_tells_a_base_url_at_which_no_scim_service_answers(
    service: RunningService, admin: Caller, environment: Mapping[str, str], told: str | None
) -> None:
    """With a gateway in front, the console's own /scim/v2 answers 501 to a good token."""
    with (
        running_service(service.database, environment=environment) as started,
        Visitor(started.url) as visiting,
    ):
        visiting.sign_in(admin.secret)
        new = "/console/tokens/new"
        fields = {**hidden(visiting.see(new)), "team_id": str(uuid4()), "name": "Acme, Okta"}
        created = visiting.send(new, fields)
        _, link = linked(started, admin)
        at = f"/console/tokens/{linked(started, admin)[0]['id']}"
        pages = [visiting.see(link), visiting.send(link, {}), visiting.see(link)]
        for_administrators = [created, visiting.send(f"{at}/rotate", hidden(visiting.see(at)))]
        expected = [] if told is None else [told.format(url=started.url)]
        for page in (*pages, *for_administrators):
            assert page.status_code == 200, page.text
            assert _BASE.findall(page.text) == expected
            assert ("/scim/v2" in page.text) == (told is not None)
        assert ["Ask whoever sent you the link" in page.text for page in pages] == [
            told is None
        ] * len(pages)
        assert ("Here you get both" in pages[0].text) == (told is not None)
        for page in for_administrators:
            assert ("SCIM_LEDGER_SCIM_BASE_URL" in page.text) == (told is None)
        assert not any("SCIM_LEDGER" in page.text for page in pages)


def test_over_plain_http_no_button_promises_what_is_refused(
    service: RunningService, admin: Caller
) -> None:
    _, link = linked(service, admin)
    page = service.client.get(link, headers={"Host": "ledger.internal"})
    assert page.status_code == 200
    assert "<form" not in page.text
    assert "begins with <code>https:</code>" in page.text
    assert "<form" in service.client.get(link).text

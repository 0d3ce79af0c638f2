"""Who comes in, by what, and what a browser is told about each page."""

from datetime import timedelta
from itertools import product
from typing import Final
from uuid import UUID, uuid4

import pytest

from api.console.cookie import LOOPBACK, SECURE
from api.console.pages.sign_in import UNKNOWN_PROXY_SEEN
from api.console.same_origin import NEEDS_HTTPS, PROXY, REFUSED, UNTOLD
from domain.api_token.permissions import Permission
from tests.api.cli.test_commands import told
from tests.api.promises.test_permissions import CONSOLE
from tests.conftest import new_database
from tests.console.browsing import SAME_ORIGIN, Visitor, assert_guarded, hidden
from tests.service import (
    Caller,
    RunningService,
    running_service,
    until,
)
from tests.turns import by_turns

READ: Final = Permission.SCIM_TOKENS_READ
HTML: Final = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "status"),
    by_turns(
        [
            ("/console", 303),
            ("/console/tokens", 200),
            ("/console/system", 200),
            ("/console/system/sales/rebuild", 303),
            ("/console/tokens?state=nonsense", 400),
            ("/console/tokens?unheard-of=1", 400),
            ("/console/nowhere", 404),
            ("/console/sign-in", 200),
            ("/console/sign-out", 405),
        ],
        one_of=3,
    ),
)
def test_every_answer_says_what_a_browser_may_do_with_it(
    visitor: Visitor, path: str, status: int
) -> None:
    answer = visitor.see(path)
    assert answer.status_code == status
    assert_guarded(answer)


NOWHERE: Final = (
    "/console/nothing",
    "/console/tokens/xyz",
    "/console/tokens/new/further",
    "/console/api-tokens/xyz/rotate",
    "/console//tokens",
    f"/console/tokens/{UUID(int=1)}",
    f"/console/setup/{UUID(int=1)}",
    "/console/assets/none",
)


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("is_in", [True, False])
def test_what_is_not_there_is_told_on_a_page(
    service: RunningService, visitor: Visitor, path: str, is_in: bool
) -> None:
    """Whoever is not signed in is led to the sign-in from wherever a page might be."""
    with Visitor(service.url) as stranger:
        answer = (visitor if is_in else stranger).see(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        if answer.status_code == 303:
            assert not is_in
            assert answer.headers["location"].startswith("/console/sign-in?to=")
            return
        assert answer.status_code == 404
        assert_guarded(answer)
        assert "<h1>Not found</h1>" in answer.text
        assert answer.headers["x-request-id"] in answer.text


@pytest.mark.parametrize("path", ["/console/sign-out", "/console/tokens", "/console/system"])
def test_a_method_that_a_page_does_not_take_is_told_on_a_page(visitor: Visitor, path: str) -> None:
    answer = visitor.client.put(path, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "text/html; charset=utf-8")
    assert_guarded(answer)
    assert "OPTIONS" in answer.headers["allow"]


def test_without_a_session_every_page_leads_to_the_sign_in_and_back(
    service: RunningService, admin: Caller
) -> None:
    with Visitor(service.url) as visiting:
        asked = "/console/tokens?state=all&name=a%26b"
        answer = visiting.see(asked)
        assert_guarded(answer)
        assert answer.status_code == 303
        form = visiting.see(answer.headers["location"])
        assert_guarded(form)
        assert 'value="/console/tokens?state=all&amp;name=a%26b"' in form.text
        done = visiting.send("/console/sign-in", {"token": admin.secret, "to": asked})
        assert (done.status_code, done.headers["location"]) == (303, asked)


SENT: Final = sorted(
    path
    for method, path in CONSOLE
    if method == "POST" and not path.startswith(("/console/sign-", "/console/setup/"))
)


@pytest.mark.parametrize("route", by_turns(SENT, one_of=3))
def test_a_form_that_no_session_comes_with_says_that_nothing_was_done(
    service: RunningService, admin: Caller, visitor: Visitor, route: str
) -> None:
    """And whoever signs in again is led to the page that it is of."""
    path = route.replace("{token_id:uuid}", str(uuid4())).replace("{name:str}", "usage")
    with Visitor(service.url) as visiting:
        answer = visiting.send(path, {"key": str(uuid4())})
        assert answer.status_code == 303
        form = visiting.see(answer.headers["location"])
        assert_guarded(form)
        assert "Nothing was done." in form.text
        done = visiting.send("/console/sign-in", {"token": admin.secret, **hidden(form)})
        assert (done.status_code, done.headers["location"]) == (303, path)
        page = visitor.see(path)
        assert page.status_code in {200, 303}
        assert "Nothing was done." not in visiting.see("/console/sign-in").text


@pytest.mark.parametrize(
    "to",
    by_turns(
        [
            "https://evil.example/",
            "//evil.example",
            "/console/../../x\n",
            "/consolex",
            "/docs",
            "/console\\@evil",
            "/console/" + "x" * 3000,
            "javascript:alert(1)",
        ],
        one_of=3,
    ),
)
def test_nobody_is_led_elsewhere(service: RunningService, admin: Caller, to: str) -> None:
    with Visitor(service.url) as visiting:
        done = visiting.send("/console/sign-in", {"token": admin.secret, "to": to})
        assert done.headers["location"] == "/console"


def test_a_link_from_elsewhere_is_opened_by_the_page_itself(visitor: Visitor) -> None:
    """The session's cookie does not come along with it, and a page that opens itself has it."""
    with Visitor(str(visitor.client.base_url)) as stranger:
        answer = stranger.client.get("/console/tokens", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert_guarded(answer)
        assert '<meta http-equiv="refresh" content="0">' in answer.text


def test_signing_in_makes_an_api_token_of_the_same_rights(
    service: RunningService, team: UUID
) -> None:
    caller = service.api_token(READ, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(caller.secret)
        secret = visiting.client.cookies[LOOPBACK]
    assert secret != caller.secret
    who = service.client.get("/whoami", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (who["user_id"], who["permissions"], who["teams"]) == (
        str(caller.user_id),
        [READ],
        [str(team)],
    )


def test_the_cookie_is_for_this_host_and_no_script(service: RunningService, admin: Caller) -> None:
    with Visitor(service.url) as visiting:
        cookie = visiting.sign_in(admin.secret).headers["set-cookie"]
        name, *attributes = (part.strip() for part in cookie.split(";"))
        assert name.startswith(f"{LOOPBACK}=api_live_")
        assert sorted(attributes) == ["HttpOnly", "Max-Age=28800", "Path=/", "SameSite=strict"]


def test_anywhere_but_on_this_machine_the_cookie_needs_https(
    service: RunningService, admin: Caller
) -> None:
    answer = service.client.post(
        "/console/sign-in",
        data={"token": admin.secret},
        headers={**SAME_ORIGIN, "Host": "tokens.example.com"},
    )
    name, *attributes = (part.strip() for part in answer.headers["set-cookie"].split(";"))
    assert name.startswith(f"{SECURE}=api_live_")
    assert "Secure" in attributes
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    assert SECURE.startswith("__Host-")


@pytest.mark.parametrize(
    ("headers", "path"),
    by_turns(
        product(
            [
                {},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
                {"Sec-Fetch-Site": "none"},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": "{url}", "Sec-Fetch-Site": "cross-site"},
                {"Origin": "{url}.evil.example"},
            ],
            ["/console/sign-in", "/console/sign-out", "/console/tokens"],
        ),
        one_of=7,
    ),
)
def test_a_form_of_another_site_does_nothing(
    service: RunningService, admin: Caller, headers: dict[str, str], path: str
) -> None:
    sent = {name: value.format(url=service.url) for name, value in headers.items()}
    with Visitor(service.url) as visiting:
        visiting.sign_in(admin.secret)
        before = service.query("SELECT count(*) FROM ledger.events WHERE topic LIKE 'api_token.%%'")
        answer = visiting.client.post(path, data={"token": admin.secret}, headers=sent)
        assert answer.status_code == 403
        assert_guarded(answer)
        assert "set-cookie" not in answer.headers
        after = service.query("SELECT count(*) FROM ledger.events WHERE topic LIKE 'api_token.%%'")
        assert after == before
        assert visiting.see("/console/tokens").status_code == 200


def test_a_browser_that_tells_its_origin_alone_is_believed(
    service: RunningService, admin: Caller
) -> None:
    with Visitor(service.url) as visiting:
        answer = visiting.client.post(
            "/console/sign-in", data={"token": admin.secret}, headers={"Origin": service.url}
        )
        assert answer.status_code == 303


def test_what_does_not_sign_in_looks_the_same_and_is_not_shown_again(
    service: RunningService,
) -> None:
    revoked = service.api_token(READ)
    service.command(lambda ledger: ledger.revoke_api_token(revoked.id))
    expired = service.api_token(READ, lifetime=timedelta(milliseconds=1))
    until(lambda: service.client.get("/whoami", auth=expired).status_code == 401, what="expiry")
    unknown = service.api_token(READ).secret[:-6] + "000000"
    with Visitor(service.url) as visiting:
        pages = set()
        for secret in (revoked.secret, expired.secret, unknown, "nonsense", ""):
            answer = visiting.send("/console/sign-in", {"token": secret})
            assert answer.status_code == 401
            assert_guarded(answer)
            assert "set-cookie" not in answer.headers
            assert not secret or secret not in answer.text
            pages.add(answer.text)
        assert len(pages) == 1
    assert revoked.secret not in service.log.read_text()


def test_a_scim_token_is_told_that_it_is_one(service: RunningService, admin: Caller) -> None:
    made = service.client.post(
        "/scim-token", json={"team_id": str(uuid4()), "name": "Okta"}, auth=admin
    ).json()
    with Visitor(service.url) as visiting:
        answer = visiting.send("/console/sign-in", {"token": made["token"]})
        assert answer.status_code == 401
        assert "an API token" in answer.text


def test_signing_out_revokes_the_session(service: RunningService, admin: Caller) -> None:
    with Visitor(service.url) as visiting:
        visiting.sign_in(admin.secret)
        secret = visiting.client.cookies[LOOPBACK]
        answer = visiting.send("/console/sign-out", {})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
        assert LOOPBACK not in visiting.client.cookies
    bearer = {"Authorization": f"Bearer {secret}"}
    assert service.client.get("/whoami", headers=bearer).status_code == 401
    assert service.client.get("/whoami", auth=admin).status_code == 200


def token_list(service: RunningService) -> list[dict[str, str]]:
    """What the command line says of the API tokens."""
    found: list[dict[str, str]] = told(service.database.app, "api-token", "list")
    return found


def test_a_session_is_listed_audited_and_revoked_like_each_api_token(
    service: RunningService, admin: Caller
) -> None:
    caller = service.api_token(READ)
    with Visitor(service.url) as visiting:
        visiting.sign_in(caller.secret)
        listed = service.client.get("/api-token", params={"limit": "1000"}, auth=admin).json()
        (session,) = [each for each in listed["result"] if each.get("session_of") == str(caller.id)]
        trail = service.client.get("/audit", params={"token_id": session["id"]}, auth=admin)
        assert [row["note"] for row in trail.json()["result"]] == ["a session of the console"]
        (told,) = [each for each in token_list(service) if each["id"] == session["id"]]
        assert told["session_of"] == str(caller.id)
        assert visiting.see("/console/tokens").status_code == 200
        service.client.delete(f"/api-token/{session['id']}", auth=admin)
        assert visiting.see("/console/tokens").status_code == 303


def test_a_session_ends_with_its_api_token(service: RunningService, admin: Caller) -> None:
    caller = service.api_token(READ)
    with Visitor(service.url) as visiting:
        visiting.sign_in(caller.secret)
        service.client.delete(f"/api-token/{caller.id}", auth=admin)
        assert visiting.see("/console/tokens").status_code == 303


@pytest.mark.parametrize("overlap_s", [0, 3600])
def test_a_session_ends_with_the_secret_that_signed_in(
    service: RunningService, admin: Caller, overlap_s: int
) -> None:
    caller = service.api_token(READ)
    with Visitor(service.url) as visiting:
        visiting.sign_in(caller.secret)
        bearer = {"Authorization": f"Bearer {visiting.client.cookies[LOOPBACK]}"}
        rotation = {"overlap_seconds": overlap_s}
        rotated = service.client.post(f"/api-token/{caller.id}/rotate", json=rotation, auth=admin)
        assert rotated.status_code == 200
        with Visitor(service.url) as newer:
            newer.sign_in(rotated.json()["token"])
            assert newer.see("/console/tokens").status_code == 200
        goes_on = bool(overlap_s)
        asked = service.client.get("/whoami", headers=bearer)
        assert asked.status_code == (200 if goes_on else 401)
        assert visiting.see("/console/tokens").status_code == (200 if goes_on else 303)
        listed = service.client.get("/api-token", params={"limit": "1000"}, auth=admin).json()
        sessions = [each for each in listed["result"] if each.get("session_of") == str(caller.id)]
        assert len(sessions) == 1 + goes_on
        told = [each for each in token_list(service) if each.get("session_of") == str(caller.id)]
        ends = sorted(each["expires_at"] for each in told)
        assert ends[0] < ends[1], "the older one ends sooner"


@pytest.mark.parametrize("kind", ["an API token", "twice", "nonsense"])
def test_a_cookie_that_no_sign_in_made_is_none(
    service: RunningService, admin: Caller, kind: str
) -> None:
    value = {
        "an API token": f"{LOOPBACK}={admin.secret}",
        "twice": f"{LOOPBACK}={admin.secret}; {LOOPBACK}={admin.secret}",
        "nonsense": f"{LOOPBACK}=nonsense",
    }[kind]
    answer = service.client.get("/console/tokens", headers={"Cookie": value})
    assert answer.status_code == 303


def test_the_root_leads_a_browser_here_and_says_so_in_a_terminal(service: RunningService) -> None:
    page = service.client.get("/", headers=HTML)
    assert '<meta http-equiv="refresh" content="0; url=/console">' in page.text
    assert service.client.get("/").json()["console"] == "/console"


@pytest.mark.long
def test_failed_attempts_to_sign_in_are_limited_as_presentations_are(server: str) -> None:
    few = {"SCIM_LEDGER_RATE_PER_SOURCE": "1"}
    with (
        new_database(server) as database,
        running_service(database, environment=few) as started,
        Visitor(started.url) as visiting,
    ):
        answers = [visiting.send("/console/sign-in", {"token": "x"}) for _ in range(4)]
        assert [answer.status_code for answer in answers][-1] == 429
        assert answers[-1].headers["retry-after"].isdigit()
        assert_guarded(answers[-1])


@pytest.mark.long
def test_the_console_may_be_left_out(server: str) -> None:
    without = {"SCIM_LEDGER_CONSOLE": "false"}
    with new_database(server) as database, running_service(database, environment=without) as alone:
        caller = alone.api_token()
        assert alone.client.get("/console").status_code == 401
        assert alone.client.get("/console", auth=caller).status_code == 404
        assert "/console" not in alone.client.get("/", headers=HTML).text
        ask = {"team_id": str(uuid4()), "name": "Okta"}
        token = alone.client.post("/scim-token", json=ask, auth=caller).json()
        link = alone.client.post(f"/scim-token/{token['id']}/setup-link", auth=caller)
        assert link.status_code == 409, "it would lead nowhere"
        assert "SCIM_LEDGER_CONSOLE" in link.json()["detail"]


AWAY: Final = ("ledger.internal", "ledger.internal:8080", "10.1.2.3:8080", "[2001:db8::1]:8080")
HERE: Final = ("localhost", "localhost:8080", "127.0.0.1:8080", "127.8.7.6", "[::1]:8080")
PLAIN: Final = {"Origin": "null"}
"""What Chromium sends with a form over plain http: no Sec-Fetch-Site, and the policy's Origin."""


@pytest.mark.parametrize("host", [*AWAY, *HERE])
@pytest.mark.parametrize("sent", [{}, {"Sec-Fetch-Site": "none"}], ids=["plain", "told"])
def test_the_sign_in_asks_for_no_token_where_it_would_be_refused(
    service: RunningService, host: str, sent: dict[str, str]
) -> None:
    """What says where it comes from came by https, whatever an unknown proxy made of it."""
    page = service.client.get("/console/sign-in", headers={**sent, "Host": host})
    assert page.status_code == 200
    assert_guarded(page)
    is_plain = host in AWAY and not sent
    assert ("<form" in page.text) != is_plain
    assert ("opened over plain http" in page.text) == is_plain
    if is_plain:
        port = service.url.rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port} HOST" in page.text
        assert "SCIM_LEDGER_TRUSTED_PROXIES" in page.text


@pytest.mark.parametrize(
    ("host", "sent", "said"),
    [
        *((host, sent, NEEDS_HTTPS) for host in AWAY for sent in ({}, PLAIN)),
        *((host, sent, UNTOLD) for host in HERE for sent in ({}, PLAIN)),
        *((host, {"Sec-Fetch-Site": "cross-site"}, REFUSED) for host in (*AWAY, *HERE)),
        *((host, {"Origin": "https://evil.example"}, REFUSED) for host in (*AWAY, *HERE)),
        *((host, {"Origin": "http://ledger.internal:81"}, PROXY) for host in HERE),
    ],
)
@pytest.mark.parametrize("path", ["/console/sign-in", f"/console/setup/{UUID(int=1)}/{'x' * 43}"])
def test_a_refusal_says_what_is_true(
    service: RunningService, host: str, sent: dict[str, str], said: str, path: str
) -> None:
    answer = service.client.post(path, headers={**sent, "Host": host})
    assert answer.status_code == 403
    assert said in answer.text


def test_a_proxy_that_is_named_is_believed_about_https(server: str) -> None:
    named = {"SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.1"}
    with new_database(server) as database, running_service(database, environment=named) as started:
        for scheme, has_form in (("https", True), ("http", False)):
            by = {"X-Forwarded-Host": "ledger.internal", "X-Forwarded-Proto": scheme}
            page = started.client.get("/console/sign-in", headers=by)
            assert ("<form" in page.text) == has_form


def test_behind_a_proxy_that_is_not_known_the_cookie_needs_https_all_the_same(
    service: RunningService, admin: Caller
) -> None:
    """A bare `proxy_pass http://127.0.0.1:8080`: what the browser says is all there is."""
    sent = {**SAME_ORIGIN, "Origin": "https://ledger.example.com"}
    answer = service.client.post("/console/sign-in", data={"token": admin.secret}, headers=sent)
    cookie, *attributes = (part.strip() for part in answer.headers["set-cookie"].split(";"))
    assert cookie.startswith(f"{SECURE}=api_live_")
    assert "Secure" in attributes
    assert f'"event": "{UNKNOWN_PROXY_SEEN}"' in service.log.read_text()
    with_session = {"Cookie": f"{LOOPBACK}={admin.secret}; {cookie}"}
    page = service.client.get("/console/tokens", headers=with_session)
    assert page.status_code == 200
    assert "SCIM_LEDGER_TRUSTED_PROXIES" in page.text
    sent |= with_session
    gone = service.client.post("/console/sign-out", headers=sent).headers["set-cookie"]
    assert gone.startswith(f'{SECURE}=""; ')
    assert "Max-Age=0" in gone
    assert "Secure" in gone
    assert service.client.get("/console/tokens", headers=with_session).status_code == 303


@pytest.mark.parametrize("host", ["tokens.example.com", "10.1.2.3:8080"])
def test_a_proxy_that_hands_on_no_scheme_is_told_of_too(
    service: RunningService, admin: Caller, host: str
) -> None:
    sent = {**SAME_ORIGIN, "Host": host}
    answer = service.client.post("/console/sign-in", data={"token": admin.secret}, headers=sent)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    page = service.client.get("/console/tokens", headers={"Host": host, "Cookie": cookie})
    assert page.status_code == 200
    assert "SCIM_LEDGER_TRUSTED_PROXIES" in page.text


def test_what_is_left_of_a_session_over_https_keeps_nobody_out(
    service: RunningService, admin: Caller, visitor: Visitor
) -> None:
    """A browser sends it to this machine over plain http, too, and to every port."""
    good = f"{LOOPBACK}={visitor.client.cookies[LOOPBACK]}"
    for left in ("nonsense", admin.secret):
        both = {"Cookie": f"{SECURE}={left}; {good}"}
        page = service.client.get("/console/tokens", headers=both)
        assert page.status_code == 200
        assert "SCIM_LEDGER_TRUSTED_PROXIES" not in page.text


def test_without_a_proxy_nothing_is_said_of_one(visitor: Visitor) -> None:
    assert "SCIM_LEDGER_TRUSTED_PROXIES" not in visitor.see("/console/tokens").text

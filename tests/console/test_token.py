"""One token's page: what it tells, what is done to it, and what a refusal looks like."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.console.pages.token import COMMANDS, DONE, SECRETS_MAX, in_rotation, is_so, mark_of
from domain.api_token.permissions import Permission
from projections.described import rfc3339
from projections.scim_tokens.secrets import TokenSecret
from projections.scim_tokens.view import TokenDocument
from tests.console.browsing import Visitor, hidden, secrets_in
from tests.console.test_system import live_table
from tests.console.test_tokens import create, present
from tests.service import Caller, RunningService

READ: Final = Permission.SCIM_TOKENS_READ
WRITE: Final = Permission.SCIM_TOKENS_WRITE
AT: Final = datetime(2026, 11, 29, 10, tzinfo=UTC)
WORDS: Final = re.compile(r"<[^>]*>")


def words(text: str) -> str:
    """What is to be read."""
    return " ".join(WORDS.sub(" ", text).split())


@pytest.fixture
def token(service: RunningService, admin: Caller, team: UUID) -> dict[str, Any]:
    return create(service, admin, team, "Okta", reason="new customer")


def at(token: dict[str, Any], command: str = "") -> str:
    return f"/console/tokens/{token['id']}{command and '/' + command}"


def do(visitor: Visitor, token: dict[str, Any], command: str, **fields: str) -> str:
    """Send a form of the page as it stands; the page after it."""
    given = hidden(visitor.see(at(token)))
    answer = visitor.send(at(token, command), {**given, **fields})
    assert answer.status_code == 303, words(answer.text)
    assert answer.headers["location"] == f"{at(token)}?done={command}"
    return visitor.see(answer.headers["location"]).text


def test_it_tells_secrets_uses_and_history(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    present(service, token["token"])
    page = visitor.see(at(token))
    assert page.status_code == 200
    assert len(page.content) < 40_000
    text = words(page.text)
    assert "1 use in 30 days" in text
    assert "nginx unknown Okta SCIM Client 1.0.0 1 just now" in text
    assert re.search(
        r"Created \([0-9a-f]{8}\) by user [0-9a-f]{8} from 127\.0\.0\.1 \(python-httpx/[0-9.]+\) "
        "because “new customer”",
        text,
    )
    assert not secrets_in(page.text)


def test_suspend_and_resume(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    page = do(visitor, token, "suspend", reason="under inquiry")
    assert '<span class="state suspended">' in page
    assert "because “under inquiry”" in page
    refused = service.client.get(
        "/gateway/nginx", headers={"Authorization": f"Bearer {token['token']}"}
    )
    assert refused.status_code == 401
    page = do(visitor, token, "resume")
    assert '<span class="state active">' in page
    present(service, token["token"])


@pytest.mark.parametrize("command", ["suspend", "resume"])
def test_a_form_that_is_sent_again_does_nothing_and_says_so(
    service: RunningService, admin: Caller, visitor: Visitor, token: dict[str, Any], command: str
) -> None:
    """It comes back from the browser's memory, and a colleague did otherwise meanwhile."""

    def told() -> str:
        return visitor.see(visitor.send(at(token, command), form).headers["location"]).text

    undo = {"suspend": "resume", "resume": "suspend"}[command]
    if command == "resume":
        do(visitor, token, undo)
    form = hidden(visitor.see(at(token)))
    assert DONE[command] in told()
    service.client.post(f"/scim-token/{token['id']}/{undo}", auth=admin).raise_for_status()
    page = told()
    assert DONE[command] not in page
    assert "If you sent a form just now, nothing was done" in page


@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize("is_suspended", [False, True])
@pytest.mark.parametrize("is_revoked", [False, True])
@pytest.mark.parametrize("networks", [(), ("192.0.2.0/24",)])
def test_what_was_done_is_told_only_while_it_is_so(
    token: dict[str, Any],
    rotates: bool,
    is_suspended: bool,
    is_revoked: bool,
    networks: tuple[str, ...],
) -> None:
    document = msgspec.convert(token, TokenDocument)
    if is_suspended:
        document = replace(document, suspended_at=token["created_at"])
    if is_revoked:
        document = replace(document, revoked_at=token["created_at"])
    untrue = {
        done for done in DONE if not is_so(done, document, rotates=rotates, networks=networks)
    }
    assert untrue == {
        "resume" if is_suspended else "suspend",
        *(() if is_revoked else ("revoke",)),
        *(("complete", "cancel") if rotates else ()),
        "allow-any-network" if networks else "allow-networks",
    }


@pytest.mark.parametrize(("command", "survivor"), [("complete", "new"), ("cancel", "old")])
def test_rotate_and_end_the_rotation(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    command: str,
    survivor: str,
) -> None:
    given = hidden(visitor.see(at(token)))
    shown = visitor.send(at(token, "rotate"), {**given, "overlap": "7"})
    assert shown.status_code == 200
    assert f"Secret of {token['name']}<" in shown.text
    (new,) = secrets_in(shown.text)
    present(service, new)
    present(service, token["token"])
    page = visitor.see(at(token)).text
    assert '<span class="state rotating">' in page
    assert "was used first" in words(page)
    do(visitor, token, command)
    for name, secret in (("new", new), ("old", token["token"])):
        headers = {"Authorization": f"Bearer {secret}"}
        status = service.client.get("/gateway/nginx", headers=headers).status_code
        assert status == (200 if name == survivor else 401)


@given(
    held=st.lists(st.timedeltas(timedelta(0), timedelta(days=90)), max_size=4),
    cancelled=st.lists(st.timedeltas(timedelta(0), timedelta(days=90)), max_size=4),
    overlap=st.timedeltas(timedelta(milliseconds=1), timedelta(days=30)),
    ends=st.booleans(),
)
def test_the_older_secret_of_a_rotation_is_the_one_that_is_good(
    held: list[timedelta], cancelled: list[timedelta], overlap: timedelta, ends: bool
) -> None:
    """And not what a rotation made that was cancelled since, however many were."""

    def secret(number: int, ends_at: datetime | None) -> TokenSecret:
        return TokenSecret(
            f"{number:08x}", rfc3339(AT), None, None, None if ends_at is None else rfc3339(ends_at)
        )

    before = [AT - ago for ago in held]
    between = [AT - ago for ago in cancelled]
    own_end = AT + timedelta(days=400) if ends else None
    history = [*before, AT + overlap, *between, own_end]
    secrets = [secret(number, ends_at) for number, ends_at in enumerate(history)]
    assert in_rotation(secrets, AT) == [secrets[len(before)], secrets[-1]]
    assert not in_rotation([*secrets[: len(before)], *secrets[len(before) + 1 :]], AT)


@pytest.mark.parametrize("count", [1, SECRETS_MAX, SECRETS_MAX + 1, 500])
@pytest.mark.parametrize("is_rotating", [False, True])
def test_of_many_secrets_the_page_tells_the_good_and_the_newest_ones(
    service: RunningService,
    visitor: Visitor,
    token: dict[str, Any],
    count: int,
    is_rotating: bool,
) -> None:
    """The good one is the oldest: every rotation since was cancelled, but one that goes on."""
    ended = rfc3339(datetime.now(UTC) - timedelta(days=1))
    ends = [None, *[ended] * (count - 1 - is_rotating), *[None] * (is_rotating and count > 1)]
    days = [rfc3339(AT - timedelta(days=number)) for number in range(count, 0, -1)]
    made = zip(days, ends, strict=True)
    secrets = [
        {"id": f"{number:08x}", "created_at": day, "ended_at": end}
        for number, (day, end) in enumerate(made)
    ]
    assert visitor.see(at(token)).status_code == 200, "the view has it"
    table = live_table(service, "scim_tokens")
    text = msgspec.json.encode(secrets).decode()
    service.query(f"UPDATE {table} SET secrets = %s WHERE id = %s", text, token["id"])
    page = visitor.see(at(token))
    assert len(page.content) < 40_000
    shown = re.findall(r'<th scope="row"><code>([0-9a-f]{8})', page.text)
    assert len(shown) == min(count, SECRETS_MAX)
    assert shown == sorted(shown, reverse=True)
    assert {shown[-1], shown[0]} == {secrets[0]["id"], secrets[-1]["id"]}
    more = f"And {count - SECRETS_MAX} more that have ended."
    assert (more in page.text) == (count > SECRETS_MAX)


@pytest.mark.parametrize("command", ["complete", "cancel"])
@pytest.mark.parametrize("shown", ["the other one", "00000000", ""])
def test_no_other_secret_ends_than_the_one_that_the_page_named(
    visitor: Visitor, service: RunningService, token: dict[str, Any], command: str, shown: str
) -> None:
    """A page that was opened during another rotation: nobody has seen what its form would end."""
    rotated = visitor.send(at(token, "rotate"), hidden(visitor.see(at(token))))
    form = hidden(visitor.see(at(token)))
    field, other = ("older", "newer") if command == "complete" else ("newer", "older")
    named = form[other] if shown == "the other one" else shown
    refused = visitor.send(at(token, command), {**form, field: named})
    assert refused.status_code == 400
    assert "another rotation is under way" in words(refused.text)
    for secret in (token["token"], *secrets_in(rotated.text)):
        present(service, secret)
    assert visitor.send(at(token, command), form).status_code == 303


def test_a_rotation_that_is_sent_twice_makes_one_secret_and_shows_it_once(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    given = hidden(visitor.see(at(token)))
    first = visitor.send(at(token, "rotate"), given)
    again = visitor.send(at(token, "rotate"), given)
    assert len(secrets_in(first.text)) == 1
    assert (again.status_code, secrets_in(again.text)) == (409, set())
    count = service.query(
        "SELECT count(*) FROM ledger.events WHERE originator_id = %s AND topic LIKE %s",
        token["id"],
        "scim_token.rotated.%",
    )
    assert count == [(1,)]


def test_a_rotation_that_comes_too_soon_is_told_when_to_come_again(
    visitor: Visitor, token: dict[str, Any]
) -> None:
    visitor.send(at(token, "rotate"), {**hidden(visitor.see(at(token))), "overlap": "0"})
    too_soon = visitor.send(at(token, "rotate"), {**hidden(visitor.see(at(token))), "overlap": "0"})
    assert too_soon.status_code == 429
    assert 0 < int(too_soon.headers["retry-after"]) <= 10
    assert not secrets_in(too_soon.text)


def test_another_name_and_another_end(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    last = (datetime.now(UTC) + timedelta(days=12)).date()
    page = do(visitor, token, "change", name="Okta, new tenant", expires_at=last.isoformat())
    assert "<h1>Okta, new tenant</h1>" in page
    assert (last + timedelta(days=1)).strftime("%Y-%m-%d 00:00:00 UTC") in page
    page = do(visitor, token, "change", no_end="yes")
    assert "<h1>Okta, new tenant</h1>" in page
    assert "no end" in page
    present(service, token["token"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"expires_at": "2020-01-01"}, "must be in the future"),
        ({"expires_at": "soon"}, "must be a day"),
        ({"expires_at": "2999-12-31", "no_end": "yes"}, "choose one"),
        ({"name": "x" * 256}, "name must be"),
        ({"name": "   "}, "name must"),
    ],
)
def test_a_change_that_cannot_be_is_told(
    visitor: Visitor, token: dict[str, Any], fields: dict[str, str], told: str
) -> None:
    answer = visitor.send(at(token, "change"), {**hidden(visitor.see(at(token))), **fields})
    assert answer.status_code == 400
    assert told in words(answer.text)
    assert "<h1>Okta</h1>" in answer.text


def test_a_name_that_nobody_changes_keeps_its_blanks(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID
) -> None:
    token = create(service, admin, team, " Okta ")
    do(visitor, token, "change", name=" Okta ", expires_at="2999-12-31")
    told = service.client.get(f"/scim-token/{token['id']}", auth=admin).json()
    assert (told["name"], told["expires_at"]) == (" Okta ", "3000-01-01T00:00:00.000Z")


@pytest.mark.parametrize(("sent", "told"), [("Okta", "of a colleague"), ("mine", "mine")])
def test_a_form_that_was_opened_before_takes_no_other_change_back(
    visitor: Visitor, service: RunningService, token: dict[str, Any], sent: str, told: str
) -> None:
    admin = service.api_token()
    form = {**hidden(visitor.see(at(token))), "name": sent, "expires_at": "2999-12-31"}
    path = f"/scim-token/{token['id']}"
    service.client.patch(path, auth=admin, json={"name": "of a colleague"}).raise_for_status()
    assert visitor.send(at(token, "change"), form).status_code == 303
    now = service.client.get(path, auth=admin).json()
    assert (now["name"], now["expires_at"]) == (told, "3000-01-01T00:00:00.000Z")


def test_a_revocation_is_for_good(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    page = do(visitor, token, "revoke", reason="left")
    assert '<span class="state revoked">' in page
    assert "<dialog" not in page, "there is nothing left to do"
    answer = service.client.get(
        "/gateway/nginx", headers={"Authorization": f"Bearer {token['token']}"}
    )
    assert answer.status_code == 401


def test_a_token_that_is_used_while_one_looks_is_not_revoked(
    service: RunningService, visitor: Visitor, token: dict[str, Any]
) -> None:
    given = hidden(visitor.see(at(token)))
    present(service, token["token"])
    answer = visitor.send(at(token, "revoke"), given)
    assert answer.status_code == 412
    assert "It was not revoked. The last use: just now ." in words(answer.text)
    present(service, token["token"])
    anyway = visitor.send(at(token, "revoke"), {**given, "anyway": "yes"})
    assert anyway.status_code == 303


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [("complete", 409, "No rotation is under way"), ("suspend", 400, "reason must be")],
)
def test_what_cannot_be_done_is_told_on_the_token_s_page(
    visitor: Visitor, token: dict[str, Any], command: str, status: int, told: str
) -> None:
    fields = {**hidden(visitor.see(at(token))), "reason": "x" * 201}
    if command == "complete":
        del fields["reason"]
    answer = visitor.send(at(token, command), fields)
    assert answer.status_code == status
    assert told in words(answer.text)
    assert "Okta" in answer.text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_form_that_no_page_made_is_refused(
    visitor: Visitor, token: dict[str, Any], command: str
) -> None:
    assert visitor.send(at(token, command), {"overlap": "7", "networks": "::1"}).status_code == 400


def test_the_address_of_a_command_leads_to_the_token(
    visitor: Visitor, token: dict[str, Any]
) -> None:
    answer = visitor.see(at(token, "rotate"))
    assert (answer.status_code, answer.headers["location"]) == (303, at(token))


def test_who_may_only_read_is_shown_no_command_and_refused_each(
    service: RunningService, token: dict[str, Any]
) -> None:
    with Visitor(service.url) as reader:
        reader.sign_in(service.api_token(READ, teams=[UUID(token["team_id"])]).secret)
        page = reader.see(at(token))
        assert page.status_code == 200
        assert "<dialog" not in page.text
        assert "History" not in page.text
        for command in COMMANDS:
            answer = reader.send(at(token, command), {"key": str(uuid4())})
            assert answer.status_code == 403
            assert "scim_tokens:write" in answer.text


@pytest.mark.parametrize("command", COMMANDS)
def test_who_may_only_write_is_not_shown_the_page_by_a_refusal(
    service: RunningService, token: dict[str, Any], command: str
) -> None:
    with Visitor(service.url) as writer:
        writer.sign_in(service.api_token(WRITE, teams=[UUID(token["team_id"])]).secret)
        assert writer.see(at(token)).status_code == 403
        shown = {"looked_at": token["created_at"], "suspended_at": token["created_at"]}
        shown |= {"networks_shown": mark_of(()), "networks": "192.0.2.1"}
        fields = {**shown, "key": str(uuid4()), "reason": "x" * 201}
        answer = writer.send(at(token, command), fields)
        assert answer.status_code == 400
        assert "reason" in words(answer.text)
        assert "Okta" not in answer.text


def test_every_command_says_what_it_did() -> None:
    """But `setup-link`, whose answer is the link."""
    renamed = {"rotate": "rotated"}
    assert {renamed.get(each, each) for each in COMMANDS} - {"setup-link"} == DONE.keys()

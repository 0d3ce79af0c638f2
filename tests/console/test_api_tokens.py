"""The API tokens: their list with the sessions, a new one, rotate and revoke."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from api.console.pages.api_tokens.new import ALLOWS
from domain.api_token.permissions import Permission
from tests.api.expected import instant
from tests.console.browsing import Visitor, assert_guarded, hidden, secrets_in
from tests.service import Caller, RunningService
from tests.turns import by_turns

PATH = "/console/api-tokens"
READ, AUDIT, MANAGE = (
    Permission.SCIM_TOKENS_READ,
    Permission.AUDIT_READ,
    Permission.API_TOKENS_MANAGE,
)


def filled(visitor: Visitor, **more: str) -> dict[str, str]:
    fields = {**hidden(visitor.see(f"{PATH}/new")), "user_id": str(uuid4()), READ: "yes"}
    return {**fields, **more}


def test_the_list_marks_sessions_and_one_s_own(
    service: RunningService, visitor: Visitor, admin: Caller
) -> None:
    other = service.api_token(READ, teams=[uuid4(), uuid4()])
    page = visitor.see(PATH)
    assert_guarded(page)
    rows = page.text.split("<tr>")[2:]
    (mine,) = [row for row in rows if ">yours<" in row]
    assert ">session<" in mine
    (row,) = [row for row in rows if str(other.id) in row]
    assert ">session<" not in row
    for text in ("scim_tokens:read", "2 teams", "never", str(other.user_id)[:8]):
        assert text in row
    assert str(admin.id) in visitor.see(f"{PATH}/{hidden_session(visitor)}").text


def hidden_session(visitor: Visitor) -> str:
    """The id of the visitor's own session."""
    rows = visitor.see(PATH).text.split("<tr>")[2:]
    (mine,) = [row for row in rows if ">yours<" in row]
    return mine.partition(f'href="{PATH}/')[2][:36]


def test_its_secret_is_in_the_answer_and_nowhere_else(
    service: RunningService, visitor: Visitor, team: UUID
) -> None:
    last = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    fields = filled(visitor, teams=f"{team}, {uuid4()}", expires_at=last, reason="a new colleague")
    made = visitor.send(f"{PATH}/new", fields)
    assert made.status_code == 200
    assert_guarded(made)
    (secret,) = secrets_in(made.text)
    who = service.client.get("/whoami", headers={"Authorization": f"Bearer {secret}"}).json()
    assert who["permissions"] == [READ]
    assert str(team) in who["teams"]
    assert who["user_id"] == fields["user_id"]
    again = visitor.send(f"{PATH}/new", fields)
    assert (again.status_code, secrets_in(again.text)) == (409, set())
    page = visitor.see(f"{PATH}/{who['id']}")
    assert str(team) in page.text
    assert not secrets_in(page.text)
    assert secret not in service.log.read_text()


def test_it_ends_in_90_days_unless_the_day_is_taken_out(
    service: RunningService, visitor: Visitor
) -> None:
    page = visitor.see(f"{PATH}/new").text
    (last,) = re.findall(r'name="expires_at" type="date" [^>]*value="([0-9-]+)"', page)
    ends = []
    for day in (last, ""):
        (secret,) = secrets_in(visitor.send(f"{PATH}/new", filled(visitor, expires_at=day)).text)
        who = service.client.get("/whoami", headers={"Authorization": f"Bearer {secret}"}).json()
        ends.append(who["expires_at"])
    assert ends[1] is None
    assert timedelta(days=88) < instant(ends[0]) - datetime.now(UTC) <= timedelta(days=90)
    again = visitor.send(f"{PATH}/new", filled(visitor, expires_at="", user_id="ada"))
    assert f'value="{last}"' not in again.text, "what was taken out stays out"


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    by_turns(
        [
            ({"user_id": "ada"}, "user_id", "must be a UUID"),
            ({"user_id": ""}, "user_id", "is required"),
            ({READ: ""}, "permissions", "choose at least one"),
            ({"teams": ","}, "teams", "must be UUIDs"),
            ({"teams": "acme"}, "teams", "must be UUIDs"),
            ({"expires_at": "soon"}, "expires_at", "must be a day"),
            ({"expires_at": "2020-01-01"}, "expires_at", "must be in the future"),
            ({"reason": "x" * 201}, "reason", "must be"),
        ],
        one_of=3,
    ),
)
def test_a_mistake_is_told_beside_its_field_and_the_rest_stays(
    visitor: Visitor, fields: dict[str, str], field: str, told: str
) -> None:
    answer = visitor.send(f"{PATH}/new", filled(visitor, **{AUDIT: "yes", **fields}))
    if field == "permissions":
        answer = visitor.send(f"{PATH}/new", filled(visitor, **fields))
    assert answer.status_code == 400
    assert f'id="{field}-about" role="alert">{told}' in answer.text
    if field != "permissions":
        assert f'name="{AUDIT}" value="yes" checked' in answer.text


def test_nobody_grants_more_than_they_have(service: RunningService, team: UUID) -> None:
    manager = service.api_token(MANAGE, READ, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(manager.secret)
        form = visiting.see(f"{PATH}/new").text
        assert f'name="{READ}"' in form
        assert f'name="{AUDIT}"' not in form
        more = visiting.send(f"{PATH}/new", filled(visiting, teams=str(team), **{AUDIT: "yes"}))
        assert (more.status_code, secrets_in(more.text)) == (403, set())
        foreign = visiting.send(f"{PATH}/new", filled(visiting, teams=str(uuid4())))
        assert foreign.status_code == 400
        assert "none of yours" in foreign.text
        everywhere = visiting.send(f"{PATH}/new", filled(visiting))
        assert everywhere.status_code == 400
        assert 'id="teams-about" role="alert"' in everywhere.text


def test_it_is_rotated_and_revoked(service: RunningService, visitor: Visitor) -> None:
    other = service.api_token(READ)
    at = f"{PATH}/{other.id}"
    rotated = visitor.send(f"{at}/rotate", {**hidden(visitor.see(at)), "overlap": "0"})
    (secret,) = secrets_in(rotated.text)
    asked = {"Authorization": f"Bearer {secret}"}
    assert service.client.get("/whoami", headers=asked).status_code == 200
    assert service.client.get("/whoami", auth=other).status_code == 401
    too_soon = visitor.send(f"{at}/rotate", {**hidden(visitor.see(at)), "overlap": "0"})
    assert too_soon.status_code == 429
    assert not secrets_in(too_soon.text)
    revoked = visitor.send(f"{at}/revoke", {"reason": "left"})
    assert revoked.headers["location"] == f"{PATH}?done=revoke"
    assert service.client.get("/whoami", headers=asked).status_code == 401
    assert visitor.see(at).status_code == 404
    assert visitor.see(f"{at}/revoke").headers["location"] == at


def test_a_session_is_ended_and_has_no_other_secret(
    service: RunningService, visitor: Visitor
) -> None:
    someone = service.api_token(*Permission)
    with Visitor(service.url) as visiting:
        visiting.sign_in(someone.secret)
        session = hidden_session(visiting)
        page = visitor.see(f"{PATH}/{session}")
        assert "The session ends now." in page.text
        assert "Rotate and show" not in page.text
        visitor.send(f"{PATH}/{session}/revoke", {"reason": "over"})
        assert visiting.see(PATH).status_code == 303


def test_foreign_looks_like_missing(service: RunningService, team: UUID) -> None:
    foreign = service.api_token(READ, teams=[uuid4()])
    manager = service.api_token(MANAGE, READ, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(manager.secret)
        assert str(foreign.id) not in visiting.see(PATH).text
        for id_ in (foreign.id, uuid4()):
            at = f"{PATH}/{id_}"
            form = {"key": str(uuid4()), "looked_at": "2099-01-01T00:00:00.000+00:00"}
            answers = [visiting.see(at), visiting.send(f"{at}/rotate", form)]
            answers.append(visiting.send(f"{at}/revoke", {"reason": "over"}))
            assert {answer.status_code for answer in answers} == {404}
    assert service.client.get("/whoami", auth=foreign).status_code == 200


def test_pages_are_whole_and_small(service: RunningService, team: UUID) -> None:
    made = {str(service.api_token(*Permission, teams=[team]).id) for _ in range(27)}
    manager = service.api_token(MANAGE, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(manager.secret)
        first = visiting.see(PATH)
        assert len(first.content) <= 40 * 1024
        cursor = first.text.partition(f'href="{PATH}?after=')[2].partition('"')[0]
        second = visiting.see(PATH, after=cursor)
        assert "Newest" in second.text
        assert all((id_ in first.text) != (id_ in second.text) for id_ in made)


def test_every_permission_can_be_chosen_in_words() -> None:
    assert ALLOWS.keys() == set(Permission)
